"""The summary holds the definitions' numbers, inside their intervals, and survives its file form."""

import json

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
    assert set(summary.flips) == set(HELD_OUT)


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
    assert summarise([before, after], ["a"], ["x"], resamples=10).critical_flips == ["x/r1"]


def test_stages_that_measured_other_examples_are_refused() -> None:
    results = stages()
    results[2]["a"] = TaskResult("a", results[2]["a"].examples[::-1])
    with pytest.raises(ValueError, match="task a: stage 2"):
        example_scores(results, "a")
