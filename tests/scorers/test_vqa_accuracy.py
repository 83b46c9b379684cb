"""Answers are compared with those of ten people, in EvalAI's normal form."""

from collections import Counter
from fractions import Fraction

import pytest

from lmmcl.errors import UserError
from lmmcl.scorers import Score, vqa_accuracy
from lmmcl.scorers.agreement import agreement
from lmmcl.scorers.evalai import CONTRACTIONS, evalai


def by_hand(answer: str, annotations: list[str]) -> Fraction:
    """Those who gave the answer see one fewer than the others do."""
    given = Counter(annotations)[answer]
    return (
        given * min(Fraction(1), Fraction(given - 1, 3)) + (10 - given) * min(Fraction(1), Fraction(given, 3))
    ) / 10


@pytest.mark.parametrize("given", range(11))
def test_agreement_equals_the_count_by_hand(given: int) -> None:
    annotations = ["stop"] * given + [f"other {number}" for number in range(10 - given)]
    assert agreement("stop", annotations) == pytest.approx(float(by_hand("stop", annotations)), abs=1e-15)


@pytest.mark.parametrize(
    "said",
    [
        "stop", "STOP", "Stop.", "the stop", "The answer is stop.", "Answer: Stop",
        "**Stop**", '"stop"', "ｓｔｏｐ", " stop\n",
    ],
)  # fmt: skip
def test_form_does_not_matter(said: str) -> None:
    assert vqa_accuracy(said, ["stop"] * 10, {}) == Score(1.0)


@pytest.mark.parametrize("said", ["go", "stop sign", "the answer is not stop", "sto p"])
def test_content_does(said: str) -> None:
    assert vqa_accuracy(said, ["stop"] * 10, {}) == Score(0.0)


@pytest.mark.parametrize("said", ["", " ", "...", "the", "''"])
def test_nothing_said_is_unreadable(said: str) -> None:
    assert vqa_accuracy(said, ["stop"] * 9 + [""], {}) == Score(0.0, parsed=False)


@pytest.mark.parametrize(
    "gold", ["stop", ["stop"], ["stop"] * 3, None, [], [{"answer": "stop"}] * 10, ["stop"] * 9 + [None]]
)
def test_too_few_annotators_and_what_is_no_text_are_named(gold: object) -> None:
    with pytest.raises(UserError, match="scorer vqa_accuracy"):
        vqa_accuracy("stop", gold, {})


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("A Dog, the cat", "dog cat"), ("two", "2"), ("none", "0"), ("eleven", "eleven"), ("dont", "don't"),
        ("coca-cola", "coca cola"), ("coca- cola", "coca cola"), ("x-ray - y", "xray y"), ("Bob's", "bob 's"),
        ("3.5", "3.5"), ("3. 5", "3 5"), ("U.S.A.", "usa"), ("1,000", "1000"), ("a\nb\tc", "b c"),
        ("what?!", "what"), ("." * 40, "." * 8), ("somebody'd", "somebodyd"), ("couldnt've", "couldn't've"),
    ],
)  # fmt: skip
def test_the_normal_form_is_evalais(text: str, normal: str) -> None:
    assert evalai(text) == normal


def test_no_contraction_stands_for_itself() -> None:
    assert all(slip != form for slip, form in CONTRACTIONS.items())
