"""The sentence says what the intervals bear, and nothing else."""

from dataclasses import replace
from pathlib import Path

import pytest

from lmmcl.evaluation.summary import Estimate, Summary
from lmmcl.report.run_data import RunData
from lmmcl.report.words import listed, seconds_text, sentence, size_text
from tests.report.fake_run import fake_run


def run(**numbers: tuple[float, float, float]) -> RunData:
    matrix, summary = fake_run(stages=5, n=30)
    assert summary is not None
    estimates = {**summary.estimates, **{name: Estimate(*value) for name, value in numbers.items()}}
    return RunData(Path("run"), matrix, replace(summary, estimates=estimates, worst_stage=2))


def test_clear_changes_are_said_with_their_sizes() -> None:
    said = sentence(
        run(
            target_learning=(50, 45, 55),
            target_forgetting=(-9, -12, -6),
            held_out_change=(-13, -15, -11),
            worst_held_out_change=(-24, -26, -22),
            recovery=(11, 9, 13),
        )
    )
    assert said == (
        "Five targets gained 50.0 points on average at their own stages, the earlier ones have lost 9.0 since, and the "
        "eight held-out tasks lost 13.0, 11.0 better than at their worst (−24.0, after count)."
    )


def test_what_its_interval_leaves_open_is_called_open() -> None:
    said = sentence(
        run(
            target_learning=(1, -2, 4),
            target_forgetting=(-1, -3, 1),
            held_out_change=(-0.4, -1.5, 0.7),
            recovery=(0, 0, 0),
        )
    )
    assert "did not clearly learn (+1.0 points on average)" in said
    assert "the earlier ones have kept theirs" in said
    assert "the eight held-out tasks did not clearly change (−0.4)" in said


def test_a_run_that_measured_only_its_base_model_says_so() -> None:
    matrix, _ = fake_run(stages=0, n=30)
    assert sentence(RunData(Path("run"), matrix, None)) == "Only the base model is measured so far."


def test_one_target_has_no_forgetting() -> None:
    nan = float("nan")
    matrix, summary = fake_run(stages=1, n=30)
    assert isinstance(summary, Summary)
    assert not summary["target_forgetting"].defined
    said = sentence(RunData(Path("run"), matrix, summary))
    assert said.startswith("One target gained") and "nan" not in said and str(nan) not in said


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (90, "1.5 min"), (5400, "1.5 h"), (86_400, "24.0 h")]
)
def test_times(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2.5e11, "250 GB"), (4e22, "40000 EB")]
)
def test_sizes(value: float, text: str) -> None:
    assert size_text(value, "B") == text


def test_lists_read_as_one_says_them() -> None:
    assert [listed(["a"]), listed(["a", "b"]), listed(["a_b", "c", "d"]), listed(["a", "b", "c"], 2)] == [
        "a",
        "a and b",
        "a b, c and d",
        "a, b and 1 more",
    ]
