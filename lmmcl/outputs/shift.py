"""How far two next-token distributions are apart, and what a correction of the logits brings back."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessor
from typing_extensions import override


def shift_by_class(base: Tensor, present: Tensor, classes: Sequence[Tensor]) -> Tensor:
    """Total variation and KL(base ‖ present) of each token, split into the classes' parts, which add up to the whole.

    A class's part of the first is ½ Σ |p − q| over its tokens, of the second Σ p (log p − log q), which may be
    negative.

    Args:
        base: (tokens, vocabulary) log-probabilities log p.
        present: (tokens, vocabulary) log-probabilities log q.
        classes: ids of each class; together every one once.

    Returns:
        (tokens, 2 × classes): all parts of the total variation, then those of KL, in nats.
    """
    p = base.exp()
    variation, divergence = (p - present.exp()).abs() / 2, p * (base - present)
    return torch.stack([term[:, ids].sum(-1) for term in (variation, divergence) for ids in classes], dim=-1)


def returned(base: Tensor, present: Tensor, corrected: Tensor) -> float:
    """The share of what was lost that a correction brings back: 1 is all; nan where no loss is seen.

    A loss is seen where its mean exceeds its standard error over the rows: a smaller one is noise, and a share of it
    any number at all. One row has no standard error.

    Args:
        base: (rows,), losses under the base model (of scores: their negatives).
        present: of the present model.
        corrected: of the present model with its logits corrected.
    """
    lost = (present - base).double()
    error = float(lost.std()) / math.sqrt(len(lost)) if len(lost) > 1 else math.inf
    mean = float(lost.mean())
    if not mean > max(error, 1e-4):
        return math.nan
    return float((present - corrected).double().mean()) / mean


class CorrectedLogits(LogitsProcessor):
    """Adds one vector, (vocabulary,), to the logits of every step of a generation."""

    def __init__(self, correction: Tensor) -> None:
        self._correction = correction

    @override
    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        return scores.float() + self._correction
