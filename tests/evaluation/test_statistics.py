"""Every statistic against its formula, written out as a loop."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from lmmcl.evaluation import statistics

Table = list[list[float]]


def mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


# One-based formulas as printed; T is the number of stages, S[k][t-1] the score of the t-th target.
TARGETS: dict[str, Callable[[Table, int], float]] = {
    "target_learning": lambda S, T: mean([S[t][t - 1] - S[0][t - 1] for t in range(1, T + 1)]),
    "target_forgetting": lambda S, T: mean([S[T][t - 1] - S[t][t - 1] for t in range(1, T)]),
    "target_overall": lambda S, T: mean([S[T][t - 1] - S[0][t - 1] for t in range(1, T + 1)]),
    "average_accuracy": lambda S, T: mean([S[T][t - 1] for t in range(1, T + 1)]),
    "backward_transfer": lambda S, T: mean([S[T][t - 1] - S[t][t - 1] for t in range(1, T)]),
    "forward_transfer": lambda S, T: mean([S[t - 1][t - 1] - S[0][t - 1] for t in range(2, T + 1)]),
    "forgetting_measure": lambda S, T: mean(
        [max(S[k][t - 1] for k in range(T)) - S[T][t - 1] for t in range(1, T)]
    ),
    "mean_finetune_accuracy": lambda S, T: mean([S[t][t - 1] for t in range(1, T + 1)]),
    "mean_final_accuracy": lambda S, T: mean([S[T][t - 1] for t in range(1, T + 1)]),
    "mean_average_accuracy": lambda S, T: mean(
        [mean([S[t][j - 1] for j in range(1, t + 1)]) for t in range(1, T + 1)]
    ),
}


def change(S: Table, k: int) -> float:
    return mean([S[k][h] - S[0][h] for h in range(len(S[0]))])


HELD_OUT: dict[str, Callable[[Table, int], float]] = {
    "held_out_change": change,
    "worst_held_out_change": lambda S, T: min(change(S, k) for k in range(1, T + 1)),
    "recovery": lambda S, T: change(S, T) - min(change(S, k) for k in range(1, T + 1)),
}


def tables(stages: int, tasks: int) -> np.ndarray:
    return np.random.default_rng(stages * 10 + tasks).uniform(0, 100, size=(4, 3, stages + 1, tasks))


@pytest.mark.parametrize("stages", [1, 2, 5])
@pytest.mark.parametrize("name", TARGETS)
def test_target_statistics_follow_their_formulas_in_every_resample(name: str, stages: int) -> None:
    several = tables(stages, 5)
    found = statistics.TARGET_STATISTICS[name](several)
    slow = [[TARGETS[name](table.tolist(), stages) for table in row] for row in several]
    np.testing.assert_allclose(found, slow, rtol=0, atol=1e-12)


@pytest.mark.parametrize("stages", [1, 2, 5])
@pytest.mark.parametrize("name", HELD_OUT)
def test_held_out_statistics_follow_their_formulas_in_every_resample(name: str, stages: int) -> None:
    several = tables(stages, 8)
    found = statistics.HELD_OUT_STATISTICS[name](several)
    slow = [[HELD_OUT[name](table.tolist(), stages) for table in row] for row in several]
    np.testing.assert_allclose(found, slow, rtol=0, atol=1e-12)


def test_every_statistic_has_a_reference() -> None:
    assert set(statistics.TARGET_STATISTICS) == set(TARGETS)
    assert set(statistics.HELD_OUT_STATISTICS) == set(HELD_OUT)


def test_the_example_worked_by_hand() -> None:
    targets = np.array([[10.0, 20.0], [60.0, 30.0], [40.0, 90.0]])
    assert statistics.target_learning(targets) == 60.0
    assert statistics.target_forgetting(targets) == -20.0
    assert statistics.target_overall(targets) == 50.0
    assert statistics.forward_transfer(targets) == 10.0
    assert statistics.forgetting_measure(targets) == 20.0
    held_out = np.array([[80.0, 60.0], [50.0, 50.0], [70.0, 60.0]])
    assert statistics.held_out_curve(held_out).tolist() == [0.0, -20.0, -5.0]
    assert statistics.worst_stage(held_out) == 1
    assert statistics.recovery(held_out) == 15.0


def test_the_earliest_of_equally_bad_stages_is_the_worst() -> None:
    assert statistics.worst_stage(np.array([[50.0], [40.0], [40.0]])) == 1


def test_a_run_of_one_stage_has_no_forgetting() -> None:
    assert np.isnan(statistics.target_forgetting(np.zeros((2, 1))))


def test_targets_that_are_not_trained_yet_are_left_out() -> None:
    table = tables(2, 5)
    assert (statistics.target_overall(table) == statistics.target_overall(table[..., :2])).all()


def test_the_base_model_alone_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one stage"):
        statistics.target_learning(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="as many targets"):
        statistics.target_learning(np.zeros((3, 1)))
