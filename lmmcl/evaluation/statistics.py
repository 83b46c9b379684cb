"""What a sequence taught and cost: the definitions of the field as pure functions of scores.

S[k][j] is the score (0-100) of task j after stage k; k = 0 is the base model and T the last stage. Every
function takes arrays (..., T+1, tasks) and reduces the last two axes, so that a bootstrap evaluates all its
resamples in one call. Target j (counted from 0) is the one trained at stage j + 1; scores of targets not yet
trained are left out.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
Statistic = Callable[[Scores], Scores]


def mean_scores(scores: Scores, groups: Sequence[str] | None = None) -> Scores:
    """The score of one task after every stage.

    Args:
        scores: (stages, examples), 0 to 100.
        groups: of every example; None: the score is the mean over examples, else over groups of the mean in each.

    Returns:
        (stages,).
    """
    if groups is None:
        return np.asarray(scores.mean(axis=1))
    return np.asarray(np.mean([scores[:, members].mean(axis=1) for members in members_of(groups)], axis=0))


def members_of(groups: Sequence[str]) -> list[NDArray[np.int64]]:
    """Positions of the examples of each group, in the order of the groups' names."""
    names, of = np.unique(np.array(groups), return_inverse=True)
    return [np.flatnonzero(of == group) for group in range(len(names))]


def _check(scores: Scores, square: bool) -> int:
    """T, after a look at the shape."""
    last = int(scores.shape[-2]) - 1
    if last < 1:
        raise ValueError(
            f"scores of the base model and of at least one stage are needed, got {last + 1} row(s)"
        )
    if square and scores.shape[-1] < last:
        raise ValueError(f"{last} stages need the scores of as many targets, got {scores.shape[-1]}")
    return last


def _after_own_stage(targets: Scores) -> Scores:
    """S[t][t] for t = 1..T, shape (..., T)."""
    last = _check(targets, square=True)
    return targets[..., np.arange(1, last + 1), np.arange(last)]


def _mean(values: Scores) -> Scores:
    """Mean over the last axis; nan of nothing (forgetting, for one, needs two targets)."""
    empty: Scores = np.full(values.shape[:-1], np.nan)
    return np.asarray(values.mean(axis=-1)) if values.shape[-1] else empty


def target_learning(targets: Scores) -> Scores:
    """mean_t (S[t][t] − S[0][t]): what each target gained at its own stage.

    Args:
        targets: (..., T+1, targets), 0 to 100.
    """
    own = _after_own_stage(targets)
    return _mean(own - targets[..., 0, : own.shape[-1]])


def target_forgetting(targets: Scores) -> Scores:
    """mean_{t<T} (S[T][t] − S[t][t]): what earlier targets lost since; negative: forgot. nan when T = 1."""
    own = _after_own_stage(targets)
    return _mean((targets[..., -1, : own.shape[-1]] - own)[..., :-1])


def target_overall(targets: Scores) -> Scores:
    """mean_t (S[T][t] − S[0][t]): what is left of the gains at the end."""
    last = _check(targets, square=True)
    return _mean(targets[..., -1, :last] - targets[..., 0, :last])


def held_out_curve(held_out: Scores) -> Scores:
    """mean_h (S[k][h] − S[0][h]) for k = 0..T, shape (..., T+1).

    Args:
        held_out: (..., T+1, H), 0 to 100.
    """
    return _mean(held_out - held_out[..., :1, :])


def held_out_change(held_out: Scores) -> Scores:
    """mean_h (S[T][h] − S[0][h])."""
    _check(held_out, square=False)
    return held_out_curve(held_out)[..., -1]


def worst_held_out_change(held_out: Scores) -> Scores:
    """min_{k=1..T} mean_h (S[k][h] − S[0][h]): the held-out change at its worst stage."""
    _check(held_out, square=False)
    return np.asarray(held_out_curve(held_out)[..., 1:].min(axis=-1))


def worst_stage(held_out: Scores) -> NDArray[np.int64]:
    """The stage k = 1..T of the worst held-out change; the earliest of equals."""
    _check(held_out, square=False)
    return np.asarray(held_out_curve(held_out)[..., 1:].argmin(axis=-1) + 1, dtype=np.int64)


def recovery(held_out: Scores) -> Scores:
    """Final minus worst held-out change, never negative: what came back after the worst stage."""
    return held_out_change(held_out) - worst_held_out_change(held_out)


def average_accuracy(targets: Scores) -> Scores:
    """ACC = (1/T) Σ_{j≤T} S[T][j] (Lopez-Paz and Ranzato 2017, arXiv 1706.08840, section 2)."""
    last = _check(targets, square=True)
    return _mean(targets[..., -1, :last])


def backward_transfer(targets: Scores) -> Scores:
    """BWT = 1/(T−1) Σ_{j<T} (S[T][j] − S[j][j]) (arXiv 1706.08840, section 2): target forgetting."""
    return target_forgetting(targets)


def forward_transfer(targets: Scores) -> Scores:
    """FWT = 1/(T−1) Σ_{j=2..T} (S[j−1][j] − S[0][j]) (arXiv 1706.08840, section 2).

    What a target gained before it was trained. The reference is the base model, where the source has a random
    one. nan when T = 1.
    """
    last = _check(targets, square=True)
    later = np.arange(1, last)
    return _mean(targets[..., later, later] - targets[..., 0, later])


def forgetting_measure(targets: Scores) -> Scores:
    """F = 1/(T−1) Σ_{j<T} (max_{k<T} S[k][j] − S[T][j]) (Chaudhry et al. 2018, arXiv 1801.10112, section 3).

    The loss since the best earlier stage; positive means forgot. The base model, k = 0, counts among the
    earlier stages, because a pretrained model may know a target best. nan when T = 1.
    """
    last = _check(targets, square=True)
    known = targets[..., : last - 1]
    return _mean(known[..., :-1, :].max(axis=-2) - known[..., -1, :])


def mean_finetune_accuracy(targets: Scores) -> Scores:
    """MFT = (1/T) Σ_t S[t][t] (MCITlib, arXiv 2508.07307): each target right after its own stage."""
    return _mean(_after_own_stage(targets))


def mean_final_accuracy(targets: Scores) -> Scores:
    """MFN = (1/T) Σ_t S[T][t] (MCITlib, arXiv 2508.07307): targets at the end, as average accuracy."""
    return average_accuracy(targets)


def mean_average_accuracy(targets: Scores) -> Scores:
    """MAA = (1/T) Σ_t (1/t) Σ_{j≤t} S[t][j] (MCITlib, arXiv 2508.07307): seen targets, over all stages."""
    last = _check(targets, square=True)
    seen = np.tril(np.ones((last, last))) / np.arange(1, last + 1)[:, None]  # (stage, target)
    return np.asarray((targets[..., 1:, :last] * seen).sum(axis=-1).mean(axis=-1))


TARGET_STATISTICS: dict[str, Statistic] = {
    "target_learning": target_learning,
    "target_forgetting": target_forgetting,
    "target_overall": target_overall,
    "average_accuracy": average_accuracy,
    "backward_transfer": backward_transfer,
    "forward_transfer": forward_transfer,
    "forgetting_measure": forgetting_measure,
    "mean_finetune_accuracy": mean_finetune_accuracy,
    "mean_final_accuracy": mean_final_accuracy,
    "mean_average_accuracy": mean_average_accuracy,
}
HELD_OUT_STATISTICS: dict[str, Statistic] = {
    "held_out_change": held_out_change,
    "worst_held_out_change": worst_held_out_change,
    "recovery": recovery,
}
