"""All that a picture's path is, as text: the same text, the same features, bit for bit."""

from __future__ import annotations

from collections.abc import Collection
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from lmmcl.parallel.strategy import casts_of
from lmmcl.structure.picture_path import PicturePath
from lmmcl.weights import checksums, fingerprint

_PACKAGES = ("lmmcl", "torch", "transformers", "torchvision", "pillow")
"""What makes pixels of pictures, tokens of text and features of pixels."""


def path_state(path: PicturePath, words: Collection[str], device: torch.device) -> str:
    """Checksums of weights and buffers on a path, their types, and what of the device rounds; collective.

    Args:
        path: of the model.
        words: names of the language model's parameters that belong to it, too.
        device: where the model is.
    """
    on_path = path.parameters(words)
    sums = {**checksums(on_path), **checksums(path.buffers)}
    dtypes = {name: str(parameter.dtype) for name, parameter in on_path.items()}
    kind = torch.cuda.get_device_name(device) if device.type == "cuda" else _processors(device.type)
    return f"{fingerprint(sums)} {fingerprint(dtypes)} {kind}"


def kernels(model: Any) -> list[Any]:
    """How a model of transformers, sharded if it is to be, computes what its weights say."""
    return [
        model.config._attn_implementation,
        torch.get_float32_matmul_precision(),
        torch.are_deterministic_algorithms_enabled(),
        casts_of(model),
    ]


def versions() -> list[str]:
    """Of the packages on which features depend; empty where one is not installed."""
    found = []
    for package in _PACKAGES:
        try:
            found.append(version(package))
        except PackageNotFoundError:
            found.append("")
    return found


def _processors(device: str) -> str:
    """What of a machine rounds: vector instructions, and into how many parts a sum is cut."""
    return f"{device} {torch.backends.cpu.get_cpu_capability()} {torch.get_num_threads()}"
