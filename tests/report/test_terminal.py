"""The tables hold the right numbers, fit 80 columns and read without colour."""

import io
import re
from collections.abc import Mapping, Sequence

import pytest
from rich.console import Console

from lmmcl.evaluation.matrix import Matrix
from lmmcl.evaluation.result import Example, TaskResult
from lmmcl.evaluation.summary import summarise
from lmmcl.report.terminal import final_summary, matrix_table, stage_table, unreadable
from tests.report.fake_run import fake_run, result


def plain(renderable: object, width: int = 80) -> str:
    """What a pipe gets."""
    stream = io.StringIO()
    Console(width=width, file=stream).print(renderable)
    return stream.getvalue()


def numbers(text: str, name: str) -> list[str]:
    """What stands behind a row's name."""
    line = next(line for line in text.splitlines() if re.match(rf"\s*{re.escape(name)}\s", line))
    return re.findall(r"[-+*]?\d+\.\d|-", line.split(name, 1)[1])


def test_a_stage_shows_score_and_both_changes() -> None:
    matrix, _ = fake_run()
    text = plain(stage_table(matrix, "02-count"))
    first, before, now = (stage.cells["species"].score for stage in matrix.finals[:3])
    assert numbers(text, "species") == [f"{now:.1f}", f"{now - first:+.1f}", f"{now - before:+.1f}"]
    assert "count *" in text and "species *" not in text
    means = matrix.scores(matrix.held_out).mean(axis=1)
    expected = [f"{means[2]:.1f}", f"{means[2] - means[0]:+.1f}", f"{means[2] - means[1]:+.1f}"]
    assert numbers(text, "mean of held-out") == expected


def test_unreadable_answers_have_a_column_only_when_there_are_some() -> None:
    matrix, _ = fake_run()
    assert "unreadable" in plain(stage_table(matrix, "02-count"))
    assert "unreadable" not in plain(stage_table(matrix, "03-tissue"))


def matrix_of(unparsed: Mapping[str, Sequence[float]], n: int = 200) -> Matrix:
    """Every answer is right; so many of each task could not be read after each stage."""
    matrix = Matrix(["count", "clock"], ["chart", "ocr", "x", "y", "z"])
    for k in range(3):
        results = [
            TaskResult(t, [Example(str(i), "", "", 1.0, parsed=i >= shares[k] * n) for i in range(n)])
            for t, shares in unparsed.items()
        ]
        matrix.put(k, f"{k:02d}-{['base', 'count', 'clock'][k]}", results)
    return matrix


def test_the_end_says_which_answers_could_not_be_read_and_when() -> None:
    shares: dict[str, list[float]] = {
        "count": [0, 0, 0],
        "clock": [0.03, 0, 0.03],
        "chart": [0.01, 0.02, 0.12],
        "ocr": [0, 0.005, 0],
    }
    said = unreadable(matrix_of(shares))
    assert said == (
        "could not be read: chart 12.0 % after stage 2 (base 1.0 %), clock 3.0 % in the base model, "
        "ocr 0.5 % after stage 1"
    )
    assert unreadable(matrix_of({"count": [0, 0, 0]})) == ""
    assert unreadable(matrix_of(shares), named=1).endswith("(base 1.0 %), 2 more in matrix.csv")


def test_a_run_ends_with_its_unreadable_answers() -> None:
    matrix, summary = fake_run()
    assert summary is not None
    text = plain(final_summary(matrix, summary))
    assert " ".join(unreadable(matrix).split()) in " ".join(text.split()) and "could not be read" in text


def test_the_share_of_unreadable_answers_stands_in_the_files() -> None:
    matrix = matrix_of({"chart": [0, 0.02, 0.12]})
    assert [line.split(",")[8] for line in matrix.to_csv().splitlines()[1:]] == ["0.0", "0.02", "0.12"]


def test_the_base_model_has_no_changes() -> None:
    text = plain(stage_table(fake_run()[0], "00-base"))
    assert "base model" in text and "vs base" not in text


def test_a_variant_is_compared_with_the_stage_before() -> None:
    matrix, _ = fake_run(stages=1)
    matrix.put(1, "01-species", [result("species", 90, 1, 50, 0)], variant="before WiSEFT")
    text = plain(stage_table(matrix, "01-species", "before WiSEFT"))
    assert "after 01-species before WiSEFT" in text
    assert len(numbers(text, "species *")) == 3
    assert numbers(text, "mean of targets") == ["-", "-", "-"]


@pytest.mark.parametrize("stages", [0, 1, 2, 5])
def test_everything_fits_80_columns(stages: int) -> None:
    matrix, summary = fake_run(stages=stages)
    text = plain(stage_table(matrix, matrix.finals[-1].name))
    text += plain(matrix_table(matrix)) if summary is None else plain(final_summary(matrix, summary))
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    assert "…" not in text


def test_the_matrix_shows_every_score_and_marks_what_was_trained() -> None:
    matrix, summary = fake_run()
    assert summary is not None
    text = plain(final_summary(matrix, summary))
    for task in matrix.tasks:
        shown = [f"{'*' if s.trained == task else ''}{s.cells[task].score:.1f}" for s in matrix.finals]
        assert numbers(text, task) == shown


def test_the_four_numbers_stand_with_their_intervals() -> None:
    matrix, summary = fake_run()
    assert summary is not None
    text = plain(final_summary(matrix, summary))
    for name, label in (("target_learning", "target learning"), ("held_out_change", "held-out change  ")):
        estimate = summary[name]
        line = [f"{estimate.value:+.1f}", f"{estimate.low:+.1f}", f"{estimate.high:+.1f}"]
        assert any(f"{line[0]}" in row and f"[{line[1]}, {line[2]}]" in row for row in text.splitlines()), (
            label
        )


def test_an_undefined_number_is_a_dash() -> None:
    matrix, summary = fake_run(stages=1)
    assert summary is not None
    assert re.search(r"target forgetting\s+-\s+needs two targets", plain(final_summary(matrix, summary)))


def test_more_stages_than_fit_leave_out_the_middle_and_say_so() -> None:
    matrix = Matrix([f"t{k}" for k in range(1, 21)], ["x"])
    for k in range(21):
        matrix.put(k, f"{k:02}-{'base' if k == 0 else f't{k}'}", [result("x", 50, k, 20, 0)])
    text = plain(matrix_table(matrix, 80))
    assert (
        "stages left out" in text and "base" in text and "t20" in text and " t2 " not in text.splitlines()[2]
    )
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80


def test_lost_critical_answers_are_named() -> None:
    def measured(score: float) -> dict[str, TaskResult]:
        return {
            task: TaskResult(task, [Example("row 7", "", "", score, critical=True)]) for task in ("a", "x")
        }

    matrix = Matrix(["a"], ["x"])
    stages = [measured(1.0), measured(0.0)]
    for k, name in enumerate(("00-base", "01-a")):
        matrix.put(k, name, stages[k].values())
    text = plain(final_summary(matrix, summarise(stages, ["a"], ["x"], resamples=10)))
    assert "critical answers lost (2): a/row 7, x/row 7" in text


def test_nothing_but_text_is_written_without_colour() -> None:
    matrix, summary = fake_run()
    assert summary is not None
    assert "\x1b" not in plain(final_summary(matrix, summary))


def test_it_can_be_written_to_an_ascii_stream() -> None:
    matrix, summary = fake_run()
    assert summary is not None
    text = plain(final_summary(matrix, summary)) + plain(stage_table(matrix, "02-count"))
    assert set(text) - set("─ \n") <= {chr(code) for code in range(128)}
