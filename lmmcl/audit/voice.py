"""How a model is spoken to: its processor, its chat template, and the tokens that end its answers."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoProcessor

from lmmcl.data.batches.collate import Collator
from lmmcl.errors import UserError
from lmmcl.evaluation.generate import end_tokens
from lmmcl.loading import Checkpoint
from lmmcl.quirks import give_template, template_of

_TOKENIZER = ("tokenizer_config.json", "tokenizer.json")
_PROCESSOR = ("processor_config.json", "preprocessor_config.json")


@dataclass(frozen=True)
class Voice:
    """How a model is spoken to.

    Args:
        processor: tokenizer, image processor and chat template.
        generation: the model's generation config.
        collator: makes prompts of rows.
        parts: hash of each part that decides what the model is told and where its answers end.
        source: the checkpoint that it comes from.
        fallback: whose processor is taken where that brings none.
    """

    processor: Any
    generation: Any
    collator: Collator
    parts: tuple[tuple[str, str], ...]
    source: Checkpoint
    fallback: Checkpoint | None

    @classmethod
    def of(cls, checkpoint: Checkpoint, model: Any, fallback: Checkpoint | None = None) -> Voice:
        """The voice of a checkpoint.

        Args:
            checkpoint: a model or an adapter.
            model: as it was loaded.
            fallback: whose processor is taken where a folder brings none of its own.
        """
        processor = _processor(checkpoint, fallback)
        config = model.config
        parts = {
            "chat templates": template_of(processor),
            "tokenizers": processor.tokenizer.backend_tokenizer.to_str(),
            "image processors": _settings(getattr(processor, "image_processor", None)),
            "end tokens": sorted(end_tokens(model, processor)),
        }
        limit = getattr(config.get_text_config(), "max_position_embeddings", None)
        hashes = ((name, _hash(value)) for name, value in parts.items())
        collator = Collator(processor, limit, always_image=False)
        return cls(processor, model.generation_config, collator, tuple(hashes), checkpoint, fallback)

    def fresh(self) -> Any:
        """The processor once more, as its files say: the one that was used may have been given a padding token."""
        return _processor(self.source, self.fallback)

    @property
    def key(self) -> str:
        """A hash of all parts."""
        return _hash(self.parts)

    def differs_from(self, other: Voice) -> list[str]:
        """Names of the parts in which two voices differ."""
        return [name for (name, mine), (_, its) in zip(self.parts, other.parts, strict=True) if mine != its]


def _processor(checkpoint: Checkpoint, fallback: Checkpoint | None) -> Any:
    folder = Path(checkpoint.location)
    if fallback is None or not folder.is_dir():
        try:
            return checkpoint.processor()
        except UserError:
            if fallback is None:
                raise
            return fallback.processor()
    if not all(any((folder / name).exists() for name in names) for names in (_TOKENIZER, _PROCESSOR)):
        return fallback.processor()
    if (folder / "config.json").exists():
        return checkpoint.processor()
    try:  # an adapter's folder, which has no config of a model
        processor = AutoProcessor.from_pretrained(folder, trust_remote_code=checkpoint.trust_remote_code)
    except (OSError, ValueError, ImportError) as error:
        raise UserError(
            f"TUNED: the processor in {checkpoint.path} cannot be loaded ({str(error).splitlines()[0]}); correct or "
            "remove its files: without them BASE's is taken."
        ) from error
    give_template(processor)
    return processor if template_of(processor) else fallback.processor()


def _settings(part: Any) -> Any:
    if part is None:
        return None
    return {key: value for key, value in part.to_dict().items() if not key.startswith("_")}


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
