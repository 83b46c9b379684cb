"""A scorer must give full marks to a row's own answer."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lmmcl.data.row import Row
from lmmcl.data.task import Task
from lmmcl.preflight.gold import gold_fault
from lmmcl.scorers import Score, Scorer, exact_match, integer, letter
from tests.data.processors import say, simple
from tests.toy import ToySource


def fault(scorer: Scorer, row: Row, scored: bool = True) -> tuple[str, str] | None:
    return gold_fault(Task("mine", ToySource(0), scorer), row, scored)


def level(scorer: Scorer, row: Row, scored: bool = True) -> str:
    found = fault(scorer, row, scored)
    return "fine" if found is None else found[0]


def test_an_answer_that_scores_one_is_fine() -> None:
    assert fault(letter, simple("a", answer="B", gold="B")) is None
    assert fault(integer, simple("a", answer="There are three.", gold=3)) is None
    assert fault(exact_match, simple("a", answer="red", gold=["crimson", "red"])) is None


def test_an_answer_of_another_gold_is_a_failure_with_both() -> None:
    found = fault(letter, simple("a", answer="B", gold="C"))
    assert found is not None
    assert found[0] == "failure"
    assert all(part in found[1] for part in ("row 'a'", "'B'", "'C'"))


def test_an_answer_that_the_scorer_cannot_read_and_a_gold_that_it_refuses_are_failures() -> None:
    assert level(integer, simple("a", answer="many", gold=3)) == "failure"
    found = fault(letter, simple("a", answer="red", gold="red"))
    assert found is not None and found[0] == "failure"
    assert found[1].endswith("correct the row, or choose another scorer.")


def test_training_rows_only_warn_as_nobody_scores_them() -> None:
    assert level(letter, simple("a", answer="red", gold="red"), scored=False) == "warning"


def test_a_scorer_that_raises_anything_is_named() -> None:
    def broken(prediction: str, gold: Any, meta: Mapping[str, Any]) -> Score:
        return Score(1 / 0)

    found = fault(broken, simple("a", gold="x"))
    assert found is not None
    assert "ZeroDivisionError" in found[1]


def test_several_annotators_who_disagree_are_a_warning() -> None:
    def share(prediction: str, gold: Any, meta: Mapping[str, Any]) -> Score:
        return Score(list(gold).count(prediction) / len(gold))

    assert level(share, simple("a", answer="red", gold=["red", "red", "blue"])) == "warning"
    assert level(share, simple("a", answer="green", gold=["red", "red"])) == "fine"
    assert level(share, simple("a", answer="green", gold=[])) == "failure"


def test_a_row_without_an_answer_is_read_by_its_gold() -> None:
    row = simple("a", gold="B")
    asked = replace(row, messages=[say("user", "IMAGE", "Which?")])
    assert fault(letter, asked) is None
