"""The bound on what was lost: closed forms, coverage on models whose loss is known, and what is told of few rows."""

import numpy as np
import pytest

from lmmcl.evaluation.loss_bound import few_rows, held_out_loss, least_bound
from lmmcl.evaluation.student_t import incomplete_beta


def right(n: int) -> list[float]:
    return [1.0] * n


def test_the_loss_is_the_mean_over_tasks_in_points() -> None:
    loss = held_out_loss({"a": [1.0, 0.0] * 20, "b": right(10)}, {"a": [0.0] * 40, "b": right(10)})
    assert loss.value == pytest.approx(25.0)
    assert 0 < loss.low < loss.value < loss.high < 50
    gained = held_out_loss({"a": [0.0, 0.0]}, {"a": [1.0, 1.0]})
    assert gained.value == gained.low == -100.0 and gained.high > -50


@pytest.mark.parametrize("n", [1, 5, 20, 200])
def test_answers_that_did_not_change_leave_what_so_few_rows_cannot_exclude(n: int) -> None:
    loss = held_out_loss({"a": right(n)}, {"a": right(n)})
    least = 100 * (1 - 0.025 ** (1 / n))
    assert [loss.low, loss.value, loss.high] == pytest.approx([-least, 0.0, least], rel=0.01)
    assert least_bound({"a": n}) == pytest.approx(least)


@pytest.mark.parametrize(("lost", "n"), [(1, 10), (3, 20), (19, 20), (40, 400)])
def test_of_right_and_wrong_it_is_the_bound_of_clopper_and_pearson(lost: int, n: int) -> None:
    high = held_out_loss({"a": right(n)}, {"a": [0.0] * lost + right(n - lost)}).high / 100
    # The loss at which so few or fewer are lost in 2.5 % of cases: P(Binomial(n, p) <= lost).
    assert 1 - incomplete_beta(high, lost + 1, n - lost) == pytest.approx(0.025, abs=0.005)


def test_with_many_rows_it_is_the_normal_interval_of_a_paired_difference() -> None:
    generator = np.random.default_rng(0)
    base = generator.integers(0, 2, 4000).astype(float)
    now = np.where(generator.random(4000) < 0.3, 1 - base, base)
    loss = held_out_loss({"a": base.tolist()}, {"a": now.tolist()})
    half = 1.96 * 100 * (base - now).std() / np.sqrt(4000)
    assert [loss.low, loss.high] == pytest.approx([loss.value - half, loss.value + half], abs=0.1)


def test_rows_count_as_they_do_in_a_mean_over_groups() -> None:
    base, now = {"a": right(4)}, {"a": [0.0, 1.0, 1.0, 1.0]}
    grouped = held_out_loss(base, now, {"a": ["x", "y", "y", "y"]})
    assert grouped.value == pytest.approx(50.0) and held_out_loss(base, now).value == pytest.approx(25.0)
    assert least_bound({"a": 4}, {"a": ["x", "y", "y", "y"]}) > least_bound({"a": 4})


TASKS = {
    "one row": [(1, 0.1, 0.0)],
    "ten rows": [(10, 0.1, 0.0)],
    "twenty rows": [(20, 0.1, 0.0)],
    "rare": [(100, 0.03, 0.0)],
    "with gains": [(20, 0.3, 0.2)],
    "three tasks": [(10, 0.1, 0.0)] * 3,
    "of unlike sizes": [(5, 0.3, 0.0), (50, 0.02, 0.02), (200, 0.05, 0.0)],
    "of unlike losses": [(30, 0.9, 0.0), (30, 0.0, 0.0), (30, 0.0, 0.3)],
    "many tasks": [(40, 0.02, 0.01)] * 8,
}


@pytest.mark.parametrize("tasks", TASKS.values(), ids=TASKS.keys())
def test_the_true_loss_is_above_the_bound_in_at_most_one_case_of_forty(
    tasks: list[tuple[int, float, float]],
) -> None:
    """Rows, share that is lost and share that is gained of each task; 250 draws of the rows."""
    generator = np.random.default_rng(1)
    true = 100 * np.mean([lost - gained for _, lost, gained in tasks])
    missed = 0
    for _ in range(250):
        base, now = {}, {}
        for place, (n, lost, gained) in enumerate(tasks):
            drawn = generator.random(n)
            base[str(place)] = np.where((drawn >= lost) & (drawn < lost + gained), 0.0, 1.0).tolist()
            now[str(place)] = np.where(drawn < lost, 0.0, 1.0).tolist()
        missed += int(held_out_loss(base, now).high < true)
    assert missed <= 12  # as 99 % of such simulations of a bound that is missed in 2.5 % of cases


def test_what_is_told_of_few_rows() -> None:
    assert few_rows({"a": 400, "b": 400}, 2.0) is None
    assert few_rows({"a": 1}, 100.0) is None
    told = few_rows({"a": 400, "scene": 12}, 20.0)
    assert told is not None and "fewer than 30 rows for dev: scene (12)" in told and "base model" not in told
    told = few_rows({"a": 100}, 2.0)
    assert told is not None and "leave a loss of up to 3.6 points possible" in told
    assert "nothing but the base model is shown to be within 2;" in told
