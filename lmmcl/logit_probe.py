"""What a model does to the product of its output embedding before it calls it logits, measured on the model itself."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lmmcl.errors import UserError

__all__ = ["LogitTransform", "measure_logit_transform"]

_PROBE = (-1e6, -300.0, -30.0, -1.0, 0.0, 1.0, 30.0, 300.0, 1e6)


@dataclass(frozen=True)
class LogitTransform:
    """``cap * tanh(scale * product / cap)``, or ``scale * product`` without a cap.

    Attributes:
        scale: a positive factor: 1 in most families; Granite divides, HyperCLOVA X multiplies.
        cap: where the logits saturate (Gemma 2 and its heirs), None where they do not.
        words: columns of the product that are words; later ones only pad the embedding (Inkling).
    """

    scale: float
    cap: float | None
    words: int

    def __call__(self, product: Tensor) -> Tensor:
        """Logits of a product, or of some of its columns, of any shape."""
        logits = product if self.scale == 1 else product * self.scale
        return logits if self.cap is None else torch.tanh(logits / self.cap) * self.cap


def measure_logit_transform(model: nn.Module) -> LogitTransform:
    """Let the model's own forward pass on a known product, and read off what comes out.

    Configs do not tell: Cohere2Vision has a ``logit_scale`` that its forward never applies, ``logits_scaling`` divides
    in one family and multiplies in another. So the forward runs with everything before the output embedding replaced
    by nothing, which costs no more than a few small tensors and works on the meta device and before sharding.

    Args:
        model: an ``AutoModelForImageTextToText``.

    Raises:
        UserError: what the model does is neither a factor nor a soft cap.
    """
    owner = _owner_of_head(model)
    head = owner.get_output_embeddings()  # type: ignore[operator]  # transformers' models are untyped
    width = _columns(head)
    probe = torch.tensor(_PROBE, dtype=torch.float64)[:, None].expand(-1, width)[None]  # (1, probes, vocabulary)
    base = owner.base_model
    assert isinstance(base, nn.Module)
    with torch.no_grad(), _answering(base, _Outputs()), _answering(head, probe):
        given = owner(input_ids=torch.zeros(1, len(_PROBE), dtype=torch.long)).logits
    transform = _fit(given[0, :, 0].double().tolist(), given.shape[-1])
    if not torch.allclose(given.double(), transform(probe)[..., : transform.words], rtol=1e-5, atol=1e-6):
        raise UserError(
            f"model.path: a model's logits must be the product of its output embedding, scaled or softly capped; "
            f"{type(model).__name__} does something else to them, which the loss over vocabulary chunks cannot follow."
        )
    return transform


def _fit(values: list[float], words: int) -> LogitTransform:
    at = dict(zip(_PROBE, values, strict=True))
    if math.isclose(at[1e6], 1e6 * at[1.0], rel_tol=1e-5):
        return LogitTransform(at[1.0], None, words)
    cap = at[1e6]
    return LogitTransform(_round(cap * math.atanh(at[1.0] / cap)), cap, words)


def _round(scale: float) -> float:
    """Some forwards compute in fp32, and the inverse of tanh shows it in the seventh digit."""
    return 1.0 if math.isclose(scale, 1.0, rel_tol=1e-6) else scale


def _owner_of_head(model: nn.Module) -> Any:
    """The module whose forward applies the head: the model, or the language model it hands its embeddings to."""
    if getattr(model, "base_model", model) is not model:
        return model
    inner = model.get_decoder()  # type: ignore[operator]
    return inner if hasattr(inner, "get_output_embeddings") else model


def _columns(head: nn.Module) -> int:
    weight = getattr(head, "weight", None)
    assert isinstance(weight, Tensor)
    return weight.shape[0]


class _Outputs:
    """What a base model returns, with nothing in it."""

    last_hidden_state = torch.zeros(1, len(_PROBE), 1)

    def __getattr__(self, name: str) -> None:
        return None

    def __getitem__(self, index: Any) -> Any:
        return self.last_hidden_state if index == 0 else ()


@contextmanager
def _answering(module: nn.Module, answer: Any) -> Iterator[None]:
    """Makes a module answer the same to everything."""
    module.forward = lambda *arguments, **named: answer
    try:
        yield
    finally:
        del module.forward
