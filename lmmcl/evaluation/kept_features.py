"""Prompts whose pictures were seen before: the features of a frozen vision tower are kept and given to the model."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor
from typing_extensions import override

from lmmcl.data.batches.batch import Batch
from lmmcl.data.row import Row
from lmmcl.data.row_content import RowContents
from lmmcl.evaluation.feature_folder import FeatureFolder
from lmmcl.evaluation.generate import generate
from lmmcl.evaluation.kept_batch import KeptBatch
from lmmcl.evaluation.kept_outputs import UnkeepableError
from lmmcl.evaluation.path_state import kernels, path_state, versions
from lmmcl.evaluation.processes import from_all
from lmmcl.structure.anatomy import Anatomy
from lmmcl.structure.picture_path import PicturePath
from lmmcl.structure.picture_recording import Recording


@dataclass(frozen=True)
class Prompts:
    """A batch of prompts, as the processor made it or as it was kept.

    Args:
        by: who answers them.
        found: the batch.
        key: under which it is kept; empty where it cannot be.
        ids: of the rows.
    """

    by: KeptFeatures
    found: Batch | KeptBatch
    key: str = ""
    ids: Sequence[str] = ()


class KeptFeatures:
    """Answers batches of prompts; those that are kept without opening, resizing or encoding a picture again.

    What is kept of a batch is what the processor made of it but for the pixels, and what the picture's path (vision
    tower and projector) gave for it, byte for byte. The same rows stand in the same batches at every stage, so
    that answers are the same with features and without, in bf16 too. The key is all that the features depend on: the
    checksums of the weights and buffers on the path, the processor, the precision, the packages, the prompts with the
    contents of their pictures. The first batch that a process keeps is answered again from what was kept; a model that
    does not say the same, bit for bit, keeps none.

    Args:
        folder: where features are kept.
        model: a transformers model.
        anatomy: of the model as it was loaded.
        processor: its processor.
        settings: what else features depend on, as plain values: the precision, the longest prompt.
    """

    def __init__(
        self, folder: FeatureFolder, model: Any, anatomy: Anatomy, processor: Any, settings: Mapping[str, Any]
    ) -> None:
        self._folder = folder
        self._model, self._processor = model, processor
        self._path = PicturePath(model, anatomy)
        self._about = [str(model.config), kernels(model), _processor(processor), dict(settings), versions()]
        self._contents = RowContents()
        self._words: set[str] = set()
        self._new_words: set[str] = set()
        self._tower, self._keeps = "", False
        self._proven = False
        self._off = self._path.adapted
        if self._off:
            warnings.warn(
                "data.cache_features keeps no features: there are adapters in vision tower or projector.",
                stacklevel=2,
            )

    def are_of(self, model: Any) -> bool:
        """Whether this is the model that answers."""
        return model is self._model

    def on_path(self, names: Collection[str]) -> bool:
        """Whether features depend on one of these parameters."""
        return not self._path.parameters(self._words).keys().isdisjoint(names)

    def begin(self, keep: bool = True) -> None:
        """Takes the checksums of the path as it is now; on every process, before each measurement.

        Args:
            keep: write what is not there yet; no: whoever looks for it would find the path changed.
        """
        self._words |= set(from_all(sorted(self._new_words)))
        self._new_words.clear()
        tower = path_state(self._path, self._words, self._model.device)
        if tower != self._tower:
            self._folder.release()
        self._tower, self._keeps = tower, keep

    def prompts(self, make: Callable[[Sequence[Row]], Batch], rows: Sequence[Row]) -> Prompts:
        """A batch of prompts as it was kept, or with pixels where it is not.

        Args:
            make: makes a left-padded batch of prompts.
            rows: at least one.
        """
        if self._off or not any(row.images for row in rows) or any(row.extras for row in rows):
            return Prompts(self, make(rows))
        try:
            contents = [self._contents.prompt(row) for row in rows]
        except OSError:  # the collator says what is wrong with a picture
            return Prompts(self, make(rows))
        key = sha256(json.dumps([self._about, self._tower, contents]).encode()).hexdigest()
        found = self._folder.find(key)
        if found is None:
            batch = make(rows)
            return Prompts(self, batch, key if self._keeps and self._same(rows, contents) else "")
        return Prompts(self, KeptBatch(*found), key, tuple(row.id for row in rows))

    def _same(self, rows: Sequence[Row], contents: Sequence[str]) -> bool:
        """Whether no picture changed since its checksum was taken: the pixels may else be others than the key's."""
        try:
            return self._contents.same(rows, contents)
        except OSError:
            return False

    def answers(self, prompts: Prompts, max_new_tokens: int) -> list[str]:
        """The answers to a batch of prompts, see `lmmcl.evaluation.generate.generate`."""
        if isinstance(prompts.found, KeptBatch):
            return self._replayed(prompts.found, prompts.ids, max_new_tokens)
        batch = prompts.found.to(self._model.device)
        if not prompts.key or self._off:
            return generate(self._model, self._processor, batch, max_new_tokens)
        watch = FirstScores()
        with self._path.recording(self._path.points(())) as recording:
            said = generate(self._model, self._processor, batch, max_new_tokens, watch.unless(self._proven))
        if recording.words - self._words:  # the key must hold them: kept from the next measurement on
            self._new_words |= recording.words
        elif recording.calls:
            self._keep(
                prompts, recording, lambda: self._prove(prompts, recording, said, watch, max_new_tokens)
            )
        return said

    def _keep(self, prompts: Prompts, recording: Recording, prove: Callable[[], None]) -> None:
        assert isinstance(prompts.found, Batch)
        try:
            if not self._proven:
                prove()
                self._proven = True
            kept = KeptBatch.of(prompts.found, recording)
        except UnkeepableError as error:
            self._off = True
            name = type(self._model).__name__
            warnings.warn(f"data.cache_features: {name} keeps no features: {error}.", stacklevel=2)
            return
        self._folder.keep(prompts.key, kept.tensors, kept.text)

    def _prove(
        self, prompts: Prompts, recording: Recording, said: list[str], watch: FirstScores, max_new_tokens: int
    ) -> None:
        """Answers a batch again from what would be kept.

        Raises:
            UnkeepableError: the answers or the first scores differ.
        """
        assert isinstance(prompts.found, Batch)
        kept, again = KeptBatch.of(prompts.found, recording), FirstScores()
        try:
            told = self._replayed(kept, prompts.found.ids, max_new_tokens, [again])
        except (RuntimeError, AttributeError, TypeError, ValueError) as error:
            raise UnkeepableError(f"without pixels it fails ({error})") from error
        if told != said or not again.equal(watch):
            raise UnkeepableError("its answers depend on more than the features of its pictures")

    def _replayed(
        self, kept: KeptBatch, ids: Sequence[str], max_new_tokens: int, watch: Sequence[LogitsProcessor] = ()
    ) -> list[str]:
        batch, recording = kept.on(self._model.device, ids)
        with self._path.replaying(recording, strict=True):
            return generate(self._model, self._processor, batch, max_new_tokens, watch)


class FirstScores(LogitsProcessor):
    """Keeps the scores of the first new token."""

    def __init__(self) -> None:
        self.scores: Tensor | None = None

    @override
    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if self.scores is None:
            self.scores = scores.clone()
        return scores

    def unless(self, needless: bool) -> list[LogitsProcessor]:
        """This one, or nothing."""
        return [] if needless else [self]

    def equal(self, other: FirstScores) -> bool:
        """Whether both saw the same, bit for bit."""
        mine, others = self.scores, other.scores
        return mine is not None and others is not None and torch.equal(mine, others)


def _processor(processor: Any) -> str:
    """All that a processor does, as a checksum."""
    state = json.loads(processor.tokenizer.backend_tokenizer.to_str())
    for last in ("padding", "truncation"):  # as its last call was
        state.pop(last, None)
    templates = [getattr(one, "chat_template", None) for one in (processor, processor.tokenizer)]
    plain = json.dumps([state, processor.to_dict(), templates], sort_keys=True, default=str)
    return sha256(plain.encode()).hexdigest()
