"""Means of a task's result, and its file form."""

import pytest

from lmmcl.data.row import Row
from lmmcl.evaluation.result import Example, TaskResult, is_critical
from lmmcl.scorers import Score


def test_means_are_those_of_the_examples() -> None:
    result = TaskResult(
        "clock",
        (
            Example("a", "1", "1", 1.0, True, {"hour": 1.0}),
            Example("b", "?", "1", 0.0, False, {"hour": 1.0}),
            Example("c", "2", "1", 0.5, True, {}),
            Example("d", "3", "1", 0.0, True, {"hour": 0.0}),
        ),
    )
    assert (result.n, result.mean, result.unparsed) == (4, 37.5, 0.25)
    assert result.parts == {"hour": 100.0 * 2 / 3}


def test_the_file_form_gives_the_result_back() -> None:
    row = Row("r", [], gold=("a", "b"), meta={"critical": True})
    result = TaskResult(
        "t", (Example.of(row, "line\nline\u2028end", Score(0.1 + 0.2, parts={"b": 1.0, "a": 0.0})),)
    )
    assert TaskResult.from_jsonl("t", result.to_jsonl()) == result
    assert result.examples[0].critical
    assert result.examples[0].gold == ["a", "b"]
    assert result.to_jsonl().count(b"\n") == 1


def test_a_score_over_groups_is_the_mean_of_their_means_and_is_kept() -> None:
    held = (("a", 1.0), ("a", 0.0), ("a", 0.0), ("a", 0.0), ("b", 1.0))
    rows = [Row(str(i), [], meta={"kind": kind}) for i, (kind, _) in enumerate(held)]
    examples = [Example.of(row, "", Score(score), "kind") for row, (_, score) in zip(rows, held, strict=True)]
    result = TaskResult("t", tuple(examples))
    assert result.mean == 100.0 * (0.25 + 1.0) / 2
    assert result.groups == ("a", "a", "a", "a", "b")
    assert TaskResult.from_jsonl("t", result.to_jsonl()) == result


def test_a_task_without_groups_says_nothing_of_them() -> None:
    result = TaskResult("t", (Example.of(Row("r", [], meta={"kind": "a"}), "", Score(1.0)),))
    assert result.groups is None
    assert b"group" not in result.to_jsonl()


@pytest.mark.parametrize("mark", [None, False, 0, "no", "", float("nan")])
def test_a_gap_and_a_no_are_no_mark(mark: object) -> None:
    assert not is_critical(mark)
    assert is_critical(True) and is_critical("yes") and is_critical(1.0)
