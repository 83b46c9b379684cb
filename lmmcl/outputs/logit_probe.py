"""What a model does to the product of its output embedding before it calls it logits, measured on the model itself."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

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
        """Logits of a product (..., columns) with all columns of the embedding, or its first."""
        logits = product[..., : self.words]
        logits = logits if self.scale == 1 else logits * self.scale
        return logits if self.cap is None else torch.tanh(logits / self.cap) * self.cap


def measure_logit_transform(model: nn.Module) -> LogitTransform:
    """Let the model's own forward pass on a known product, and read off what comes out.

    Configs do not tell: Cohere2Vision has a ``logit_scale`` that its forward never applies, and
    ``logits_scaling`` divides in one family and multiplies in another. So the forward runs with everything
    before the output embedding replaced by nothing: a few small tensors, on the meta device too, but before
    sharding.

    Args:
        model: an ``AutoModelForImageTextToText``.

    Raises:
        UserError: what the model does is neither a factor nor a soft cap.
    """
    owner, head = _owner_and_head(model)
    columns = _columns(model)
    probe = torch.tensor(_PROBE, dtype=torch.float64)[None, :, None].expand(
        -1, -1, columns
    )  # (1, probes, words)
    with ExitStack() as stack:
        # A child without parameters, such as a soft cap, comes after the head and must run.
        children = [child for child in owner.children() if any(True for _ in child.parameters())]
        inner = [part for child in children for part in child.modules() if isinstance(part, PreTrainedModel)]
        for part in {*children, *inner}:
            stack.enter_context(_answering(part, probe if part is head else _Outputs()))
        stack.enter_context(torch.no_grad())
        tokens = torch.zeros(1, len(_PROBE), dtype=torch.long)
        try:
            given = owner(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits
        except (TypeError, AttributeError, RuntimeError, ValueError) as error:
            raise UserError(
                f"model.path: a model must apply its output embedding after its layers; the forward of "
                f"{type(owner).__name__} could not be followed ({error})."
            ) from error
    transform = _fit(given[0, :, 0].double().tolist(), given.shape[-1])
    if not torch.allclose(given.double(), transform(probe), rtol=1e-5, atol=1e-6):
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


def _owner_and_head(model: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The model whose own forward makes the logits, and its child that holds the output embedding."""
    embedding = _embedding(model)
    owners = [
        part for part in model.modules() if isinstance(part, PreTrainedModel) and _child_with(part, embedding)
    ]
    owner = owners[-1]
    child = _child_with(owner, embedding)
    assert child is not None
    return owner, child


def _child_with(owner: nn.Module, embedding: nn.Module) -> nn.Module | None:
    children = owner.children()
    return next((child for child in children if any(part is embedding for part in child.modules())), None)


def _embedding(model: nn.Module) -> nn.Module:
    untyped: Any = model
    for part in (untyped, untyped.get_decoder()):
        embedding = part.get_output_embeddings() if hasattr(part, "get_output_embeddings") else None
        if isinstance(embedding, nn.Module):
            return embedding
    raise UserError(
        f"model.path: a model must have an output embedding, and {type(model).__name__} has none."
    )


def _columns(model: nn.Module) -> int:
    weight = _embedding(model).weight
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
