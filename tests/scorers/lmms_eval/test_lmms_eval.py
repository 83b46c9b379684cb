"""The lmms-eval mode gives lmms-eval's scores; `tests.benchmarks.lmms_eval_parity` compares with the real one."""

from typing import Any

import pytest

from lmmcl.scorers.lmms_eval import SCORERS
from tests.scorers.adversarial import ROWS, cases
from tests.scorers.lmms_eval.reference import SLOW


def test_every_task_of_the_study_has_its_scorer() -> None:
    assert set(SCORERS) == set(SLOW) == set(ROWS)
    assert all(scorer.__name__ == task for task, scorer in SCORERS.items())  # type: ignore[attr-defined]


@pytest.mark.parametrize("task", SCORERS)
def test_scores_equal_the_rule_read_slowly_on_adversarial_predictions(task: str) -> None:
    seen = set()
    for case in cases(task, 600 if task in ("docvqa", "infovqa") else 4000, seed=1):
        score = SCORERS[task](case.prediction, case.gold, case.meta)
        slow = SLOW[task](case.prediction, case.gold, case.meta)
        assert score.value == pytest.approx(slow, abs=1e-12), (case.prediction, case.gold, case.meta)
        assert 0 <= score.value <= 1 and (score.parsed or not score.value), case.prediction
        seen.add((score.value > 0, score.parsed))
    assert {found for found, _ in seen} == {parsed for _, parsed in seen} == {True, False}


HAND_PICKED: list[tuple[str, str, Any, dict[str, Any], float]] = [
    ("ai2d", "B. foo", "B", {}, 1.0),
    ("ai2d", "b. foo", "B", {}, 0.0),
    ("ai2d", "(b)", "B", {}, 1.0),
    ("ai2d", "It's B", "B", {}, 0.0),
    ("ai2d", "\u3000\nB.", "B", {}, 1.0),
    ("ai2d", "b\x00.", "B", {}, 1.0),  # NumPy drops NUL at the end
    ("ai2d", "İ", "I", {}, 1.0),  # NumPy cuts the longer lower case
    ("chartqa", "105", "100", {}, 1.0),
    ("chartqa", "105.1", "100", {}, 0.0),
    ("chartqa", "5%", "0.05", {}, 1.0),
    ("chartqa", "5%", "5", {}, 0.0),
    ("chartqa", "1,000", "1000", {}, 0.0),
    ("chartqa", "1_000", "1000", {}, 1.0),
    ("chartqa", "１００", "100", {}, 1.0),
    ("chartqa", "0.0", "0", {}, 0.0),
    ("chartqa", "nan", "nan", {}, 0.0),
    ("chartqa", "-5", "5", {}, 0.0),
    ("chartqa", " YES ", "Yes", {}, 1.0),
    ("docvqa", "ab", ["abcd"], {}, 0.5),
    ("docvqa", "a", ["abcd"], {}, 0.0),
    ("docvqa", "", [" "], {}, 1.0),
    ("docvqa", "x", [], {}, 0.0),
    ("infovqa", " A  B ", ["a b", "x"], {}, 1.0),
    ("infovqa", "abc", "abcd", {}, 0.75),
    ("text_vqa", "The Stop.", ["stop"] * 2 + ["go"] * 8, {}, (2 * (1 / 3) + 8 * (2 / 3)) / 10),
    ("text_vqa", "dont", ["don't"] * 10, {}, 1.0),
    ("text_vqa", "two", ["2"] * 10, {}, 1.0),
    ("text_vqa", "x", [], {}, 0.0),
    ("text_vqa", "x", None, {}, 0.0),
    ("realworldqa", "The answer is (C)", "C", {}, 1.0),
    ("realworldqa", "c", "C", {}, 0.0),
    ("realworldqa", "Downhill..", "downhill", {}, 1.0),
    ("mmstar", "Not A. B is right: C", "A", {}, 0.0),
    ("mmstar", "answer is B, not D. The best answer is B", "B", {}, 1.0),
    ("mmstar", "ABLE", "B", {}, 1.0),  # any capital will do when nothing else is there
    ("mmstar", "", "A", {}, 0.0),
    ("scienceqa", "b", "B", {}, 1.0),
    ("scienceqa", "B. foo", "B", {}, 1.0),
    ("scienceqa", "(B)", "B", {}, 0.0),
    ("scienceqa", "b.", "B", {}, 0.0),
    ("seedbench", "Because", "B", {}, 1.0),
    ("seedbench", "(B)", "B", {}, 0.0),
    ("ocrbench", "the S T O P", ["stop"], {"dataset": "IIIT5K"}, 0.0),
    ("ocrbench", "x ^ 2", ["x^2"], {"dataset": "HME100k"}, 1.0),
    ("ocrbench", "X^2", ["x^2"], {"dataset": "HME100k"}, 0.0),
    ("ocrbench", "ＳＴＯＰ", ["go", "stop"], {"dataset": "IIIT5K"}, 1.0),
    ("cub200", "It's B", "S", {}, 1.0),
    ("cub200", "Because", "B", {}, 1.0),
    ("cub200", "", "B", {}, 0.0),
    ("pixmo_count", "fourteen", "There are 4 dogs", {}, 1.0),
    ("pixmo_count", "no phones", 1, {}, 1.0),
    ("pixmo_count", "3.5", 35, {}, 1.0),
    ("pixmo_count", "٣", 3, {}, 1.0),
    ("pixmo_count", "9" * 5000, 3, {}, 0.0),
    ("pixmo_count", "1", 3, {"answer": "The number of phones is 3"}, 1.0),
    ("countbench", "3.5", 3, {}, 1.0),
    ("countbench", "fourteen", 4, {}, 1.0),
    ("countbench", "Two, or 3", 3, {}, 1.0),
    ("time_clock", "3.05", "3:05", {}, 0.0),
    ("time_clock", "3 h 6", "3:05", {}, 1.0),
    ("time_clock", "3:00", "3:59", {}, 1.0),
    ("time_clock", "4:00", "3:59", {}, 0.0),
    ("coco_clock", "15:05", "3:05", {}, 0.0),
    ("openimg_clock", "103:05", "3:05", {}, 1.0),
    ("path_vqa", "yes.", "yes", {"question": "Is it?"}, 0.0),
    ("path_vqa", "yes.", "yes", {"question": "what?"}, 1.0),
    ("path_vqa", "the red red car", "red car", {"question": "what?"}, 0.5),
]


@pytest.mark.parametrize(("task", "said", "gold", "meta", "value"), HAND_PICKED)
def test_the_faults_of_the_original_are_kept(
    task: str, said: str, gold: Any, meta: dict[str, Any], value: float
) -> None:
    assert SCORERS[task](said, gold, meta).value == pytest.approx(value, abs=1e-15)


@pytest.mark.parametrize("task", SCORERS)
def test_nothing_said_is_unreadable_and_none_is_nothing_said(task: str) -> None:
    (case,) = cases(task, 1)
    nothing = SCORERS[task]("", case.gold, case.meta)
    assert not nothing.parsed and nothing.value == 0
    assert SCORERS[task](None, case.gold, case.meta) == nothing  # type: ignore[arg-type]


@pytest.mark.parametrize("task", SCORERS)
def test_endless_answers_take_no_time(task: str) -> None:
    (case,) = cases(task, 1)
    for said in ("9" * 20_000, "a " * 5_000, "." * 20_000, "the answer is " * 2_000, "1:" * 10_000):
        SCORERS[task](said, case.gold, case.meta)


def test_clock_and_path_vqa_report_their_parts() -> None:
    assert SCORERS["time_clock"]("4:06", "3:05", {}).parts == {"hour": 0.0, "minute": 1.0, "both": 0.0}
    said = SCORERS["path_vqa"]("red red car", "car wall", {"question": "what?"})
    assert said.parts == {"exact_match": pytest.approx(1 / 3), "token_f1": pytest.approx(0.4)}
    said = SCORERS["path_vqa"]("No", "no", {"question": "Is it?"})
    assert said.parts == {"exact_match": 1.0, "token_f1": 1.0, "yes_no": 1.0}


@pytest.mark.parametrize("task", ["chartqa", "mmstar", "seedbench", "ocrbench"])
def test_a_score_is_filed_under_its_category(task: str) -> None:
    score = SCORERS[task]("A", "A", {"category": "human"})
    assert score.parts == {"human": score.value} == {"human": 1.0}
