"""What holds for every scorer: any text is scored at once, from 0 to 1, and what is right was read."""

from typing import Any

import pytest

import lmmcl.scorers
from lmmcl.scorers import Scorer
from tests.scorers.adversarial import cases

# Scorer -> a task whose rows it scores.
SCORED = {
    "anls": "docvqa", "clock": "time_clock", "exact_match": "realworldqa", "integer": "countbench", "letter": "mmstar",
    "path_vqa": "path_vqa", "relaxed_accuracy": "chartqa", "substring": "ocrbench", "token_f1": "realworldqa",
    "vqa_accuracy": "text_vqa", "yes_no": "yes_no",
}  # fmt: skip
ENDLESS = [
    "9" * 5000,
    "9." * 3000,
    "a " * 3000,
    "a. " * 3000,
    "the answer is " * 1000,
    "1:" * 3000,
    "twenty " * 2000,
]
ENDLESS += [
    "-" * 5000,
    "(" * 5000,
    " " * 5000,
    "A. foo\n" * 1000,
    "no " * 2000,
    "half past " * 1000,
    "1,000," * 1000,
]


def find(name: str) -> Scorer:
    scorer: Scorer = getattr(lmmcl.scorers, name)
    return scorer


def examples(name: str, number: int) -> list[tuple[str, Any, dict[str, Any]]]:
    """Predictions with golds that the scorer takes."""
    if name == "yes_no":
        return [(case.prediction, "yes", {}) for case in cases("path_vqa", number)]
    found = [(case.prediction, case.gold, case.meta) for case in cases(SCORED[name], number)]
    return [
        (said, [text or "x" for text in gold] if isinstance(gold, list) else gold, meta)
        for said, gold, meta in found
        if not isinstance(gold, list) or all(text.strip() for text in gold)
    ]


def test_all_are_listed_here() -> None:
    assert {name for name in lmmcl.scorers.__all__ if name[0].islower()} == set(SCORED)


@pytest.mark.parametrize("name", SCORED)
def test_any_text_is_scored_from_0_to_1_and_what_is_right_was_read(name: str) -> None:
    seen = set()
    for said, gold, meta in examples(name, 1000):
        score = find(name)(said, gold, meta)
        assert 0 <= score.value <= 1 and all(0 <= part <= 1 for part in score.parts.values())
        assert score.parsed or score.value == 0, (said, gold)
        seen.add((score.value > 0, score.parsed))
    assert seen == {(True, True), (False, True), (False, False)}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("said", ENDLESS, ids=lambda text: repr(text[:12]))
@pytest.mark.parametrize("name", SCORED)
def test_endless_answers_take_no_time(name: str, said: str) -> None:
    _, gold, meta = examples(name, 1)[0]
    find(name)(said, gold, meta)


@pytest.mark.parametrize("name", SCORED)
def test_a_gold_answer_is_right(name: str) -> None:
    for _, gold, meta in examples(name, 50):
        said = gold[0] if isinstance(gold, list) else str(gold)
        score = find(name)(said, gold, meta)
        assert name == "vqa_accuracy" or not score.parsed or score.value == 1, (said, gold)
