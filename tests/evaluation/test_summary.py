"""The summary holds the definitions' numbers, inside their intervals, and survives its file form."""

import json
from dataclasses import replace

import numpy as np
import pytest

from lmmcl.evaluation.result import Example, TaskResult
from lmmcl.evaluation.statistics import HELD_OUT_STATISTICS, TARGET_STATISTICS
from lmmcl.evaluation.summary import Summary, example_scores, summarise

TARGETS, HELD_OUT = ["a", "b", "c"], ["x", "y"]


def stages(n: int = 60, seed: int = 0) -> list[dict[str, TaskResult]]:
    generator = np.random.default_rng(seed)
    return [
        {
            task: TaskResult(
                task, [Example(str(i), "", "", float(generator.integers(0, 2))) for i in range(n)]
            )
            for task in [*TARGETS, *HELD_OUT]
        }
        for _ in range(4)
    ]


def test_every_number_is_its_statistic_and_lies_in_its_interval() -> None:
    results = stages()
    summary = summarise(results, TARGETS, HELD_OUT, resamples=500)
    for tasks, known in ((TARGETS, TARGET_STATISTICS), (HELD_OUT, HELD_OUT_STATISTICS)):
        table = np.array([[result[task].mean for task in tasks] for result in results])
        for name, statistic in known.items():
            assert summary[name].value == pytest.approx(float(statistic(table)), abs=1e-9)
    for name in ("target_learning", "target_overall", "held_out_change"):
        assert summary[name].low < summary[name].value < summary[name].high
    assert len(summary.held_out_curve) == 4
    assert summary.held_out_curve[-1].value == summary["held_out_change"].value
    assert (summary.held_out_curve[0].low, summary.held_out_curve[0].high) == (0.0, 0.0)


def test_changes_of_every_task_are_its_scores_less_the_base_models_with_intervals() -> None:
    results = stages()
    summary = summarise(results, TARGETS, HELD_OUT, resamples=500)
    for task in [*TARGETS, *HELD_OUT]:
        base = results[0][task].mean
        for k, change in enumerate(summary.changes[task]):
            assert change.value == pytest.approx(results[k][task].mean - base, abs=1e-9)
            assert change.low < change.value < change.high or k == 0
    learned = [summary.changes[task][t + 1].value for t, task in enumerate(TARGETS)]
    assert np.mean(learned) == pytest.approx(summary["target_learning"].value)
    since = [summary.since_own_stage[task].value for task in TARGETS]
    assert since[-1] == 0.0
    assert np.mean(since[:-1]) == pytest.approx(summary["target_forgetting"].value)


def test_flips_of_all_tasks_have_intervals_that_hold_their_shares() -> None:
    summary = summarise(stages(), TARGETS, HELD_OUT, resamples=500)
    assert list(summary.flips) == [*TARGETS, *HELD_OUT]
    for task, found in summary.flips.items():
        for share, between in ((found.lost, found.lost_interval), (found.gained, found.gained_interval)):
            assert between is not None and between[0] < share < between[1]
        # Scores are 0 or 1 here: what is gained less what is lost is the change.
        change = summary.changes[task][-1]
        assert 100 * (found.gained - found.lost) == pytest.approx(change.value)
    for name in ("lost", "gained"):
        mean = np.mean([100 * getattr(summary.flips[task], name) for task in HELD_OUT])
        assert summary[f"held_out_{name}"].value == pytest.approx(mean)
    net = summary["held_out_gained"].value - summary["held_out_lost"].value
    assert net == pytest.approx(summary["held_out_change"].value)


def test_the_interval_of_flips_is_that_of_a_binomial_share() -> None:
    summary = summarise(stages(n=900), TARGETS, HELD_OUT, resamples=4000)
    found = summary.flips["x"]
    error = 1.96 * np.sqrt(found.lost * (1 - found.lost) / 900)
    assert found.lost_interval == pytest.approx((found.lost - error, found.lost + error), abs=0.15 * error)


def test_the_same_seed_gives_the_same_summary() -> None:
    assert summarise(stages(), TARGETS, HELD_OUT) == summarise(stages(), TARGETS, HELD_OUT)
    assert summarise(stages(), TARGETS, HELD_OUT) != summarise(stages(), TARGETS, HELD_OUT, seed=1)


def test_the_file_form_gives_the_summary_back() -> None:
    summary = summarise(stages()[:3], TARGETS, HELD_OUT, resamples=100)
    assert Summary.from_dict(json.loads(json.dumps(summary.to_dict(), allow_nan=False))) == summary


def test_a_run_of_one_stage_has_undefined_forgetting() -> None:
    summary = summarise(stages()[:2], TARGETS, HELD_OUT, resamples=100)
    assert not summary["target_forgetting"].defined
    assert summary.to_dict()["estimates"]["target_forgetting"] == {"value": None, "low": None, "high": None}


def test_held_out_tasks_may_be_missing() -> None:
    summary = summarise(stages(), TARGETS, [], resamples=100)
    assert summary.worst_stage is None
    assert "held_out_change" not in summary.estimates


def test_critical_flips_are_named() -> None:
    before = {task: TaskResult(task, [Example("r1", "", "", 1.0, critical=True)]) for task in ["a", "x"]}
    after = {task: TaskResult(task, [Example("r1", "", "", 0.0, critical=True)]) for task in ["a", "x"]}
    assert summarise([before, after], ["a"], ["x"], resamples=10).critical_flips == ["a/r1", "x/r1"]


def test_stages_that_measured_other_examples_are_refused() -> None:
    results = stages()
    results[2]["a"] = TaskResult("a", results[2]["a"].examples[::-1])
    with pytest.raises(ValueError, match="task a: stage 2"):
        example_scores(results, "a")


def grouped(results: list[dict[str, TaskResult]], task: str) -> list[dict[str, TaskResult]]:
    """The same results in which a task's score is a mean over groups of 4 and of all other examples."""
    return [
        {
            **result,
            task: TaskResult(
                task, [replace(e, group="small" if int(e.id) < 4 else "large") for e in result[task].examples]
            ),
        }
        for result in results
    ]


@pytest.mark.parametrize("task", ["a", "x"])
def test_a_task_whose_score_is_a_mean_over_groups_is_one_in_every_number(task: str) -> None:
    results = stages()
    plain, found = (
        summarise(held, TARGETS, HELD_OUT, resamples=500) for held in (results, grouped(results, task))
    )
    scores = [result[task].mean for result in grouped(results, task)]
    for k, change in enumerate(found.changes[task]):
        assert change.value == pytest.approx(scores[k] - scores[0], abs=1e-9)
        assert change.low < change.value < change.high or k == 0
    tasks, known = (TARGETS, TARGET_STATISTICS) if task == "a" else (HELD_OUT, HELD_OUT_STATISTICS)
    table = np.array([[result[name].mean for name in tasks] for result in grouped(results, task)])
    for name, statistic in known.items():
        assert found[name].value == pytest.approx(float(statistic(table)), abs=1e-9)
    # Four examples are half of the score now.
    width = [one.changes[task][-1].high - one.changes[task][-1].low for one in (plain, found)]
    assert width[1] > 1.2 * width[0]
    # Shares of flips are over examples, and other tasks are what they were.
    assert found.flips[task].lost == plain.flips[task].lost
    low, high = found.flips[task].lost_interval or (1.0, 0.0)
    assert low <= found.flips[task].lost <= high
    for other in {*TARGETS, *HELD_OUT} - {task}:
        assert found.changes[other] == plain.changes[other]
        assert found.flips[other] == plain.flips[other]


def test_stages_that_group_examples_in_another_way_are_refused() -> None:
    results = stages()
    mixed = [results[0], *grouped(results, "x")[1:]]
    with pytest.raises(ValueError, match="task x: stage 1 measured other examples"):
        summarise(mixed, TARGETS, HELD_OUT, resamples=10)
