"""Model and processor of a checkpoint, by path or hub id, in the right dtypes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
from transformers.initialization import meta_device_safe_creation_ops

from lmmcl.embedded import location
from lmmcl.errors import UserError
from lmmcl.quirks import give_template, template_of

MISSING = re.compile(r"(\w+) requires the (\w+) library but it was not found")
"""How transformers says that a package is missing; some processors need torchvision, for videos."""


@dataclass(frozen=True)
class Checkpoint:
    """Where a pretrained model comes from and how it is built.

    Args:
        path: a local folder, a hub id, or the name of an embedded checkpoint.
        revision: branch, tag or commit on the hub.
        trust_remote_code: run Python code that the checkpoint brings; off unless asked for.
        from_scratch: keep config and processor, make new weights from the seed.
    """

    path: str
    revision: str | None = None
    trust_remote_code: bool = False
    from_scratch: bool = False

    @property
    def location(self) -> str:
        """What transformers is told to load."""
        return location(self.path)

    def _options(self) -> dict[str, Any]:
        return {"revision": self.revision, "trust_remote_code": self.trust_remote_code}

    def config(self) -> Any:
        """The model's config."""
        return _named(self.path, AutoConfig.from_pretrained, self.location, **self._options())

    @property
    def max_length(self) -> int | None:
        """Most tokens that the language model was made for; None: its config names no limit."""
        return getattr(self.config().get_text_config(), "max_position_embeddings", None)

    def processor(self) -> Any:
        """Tokenizer, image processor and chat template in one."""
        self.config()  # a processor's loader looks for many files, and without a network waits for each
        processor = _named(self.path, AutoProcessor.from_pretrained, self.location, **self._options())
        give_template(processor)
        if not template_of(processor):
            raise UserError(
                f"model.path: the processor of {self.path} has no chat template; choose an instruct model."
            )
        return processor

    def model(self, full_precision: bool, seed: int, attention: str | None = None) -> nn.Module:
        """The model.

        Args:
            full_precision: in fp32 instead of the checkpoint's dtype.
            seed: of new weights, for ``from_scratch``.
            attention: transformers' name of an attention kernel; None leaves the choice to transformers.
        """
        options: dict[str, Any] = {"attn_implementation": attention} if attention else {}
        if self.from_scratch:
            # In the host's memory: a GPU, where Lightning would make them, draws other numbers.
            with torch.device("cpu"), torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                model = AutoModelForImageTextToText.from_config(
                    self.config(),
                    dtype=torch.float32,
                    trust_remote_code=self.trust_remote_code,
                    **options,
                )
        else:
            model = _named(
                self.path,
                AutoModelForImageTextToText.from_pretrained,
                self.location,
                dtype=torch.float32 if full_precision else "auto",
                use_safetensors=True,
                **self._options(),
                **options,
            )
        assert isinstance(model, nn.Module)
        return model

    def skeleton(self, dtype: torch.dtype, attention: str | None = None) -> nn.Module:
        """The model without values, on the meta device and in eval mode; no file of weights is opened.

        Args:
            dtype: of its parameters.
            attention: as in `model`.
        """
        options: dict[str, Any] = {"attn_implementation": attention} if attention else {}
        with torch.device("meta"), meta_device_safe_creation_ops():
            model = AutoModelForImageTextToText.from_config(
                self.config(), dtype=dtype, trust_remote_code=self.trust_remote_code, **options
            )
        assert isinstance(model, nn.Module)
        return model if self.from_scratch else model.eval()


def _named(path: str, load: Any, *arguments: Any, **options: Any) -> Any:
    """Runs one of transformers' loaders; what it cannot find is the user's mistake and named as such."""
    try:
        return load(*arguments, **options)
    except ImportError as error:
        reason = str(error).strip().splitlines()[0]
        if missing := MISSING.search(str(error)):
            part, package = missing[1], missing[2].lower()
            reason = f"its {part} needs {package}; pip install {package}"
        raise UserError(f"model.path: could not load {path}: {reason}") from error
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        where = "" if Path(arguments[0]).exists() else "there is no such folder, and as a hub id: "
        raise UserError(f"model.path: could not load {path}: {where}{reason}") from error


def device_of(name: str) -> torch.device:
    """The device that a word means: ``auto``, ``cpu``, ``cuda`` and the like.

    Raises:
        UserError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(
            f"--device: {name!r} is no device of this machine; auto takes the one there is."
        ) from error
    return device
