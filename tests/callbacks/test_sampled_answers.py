"""The same questions after every stage, with the answers that the stage gave."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lmmcl.callbacks import SampledAnswers
from lmmcl.callbacks.sampled_answers import _question
from lmmcl.data.row import Row
from lmmcl.errors import UserError
from lmmcl.evaluation.answer_log import read_answers
from lmmcl.evaluation.generate import generate
from tests.callbacks.probed import probed
from tests.toy import toy_data, toy_module, toy_trainer


def test_a_row_that_no_user_asks_has_an_empty_question() -> None:
    turns = {
        role: {"role": role, "content": [{"type": "text", "text": f"by {role}"}]}
        for role in ("system", "user", "assistant")
    }
    assert _question(Row("1", [turns["system"], turns["assistant"]])) == ""
    assert _question(Row("1", [turns["user"], turns["assistant"]])) == "by user"


STAGES = ("00-base", "01-first", "02-second")


def test_the_answers_are_those_of_the_stage_s_own_measurement(tiny: Path) -> None:
    run = probed(tiny)
    answers = read_answers(run.path)["SampledAnswers"]
    assert [(one.stage, one.name, one.task) for one in answers] == [
        (k, name, task) for k, name in enumerate(STAGES) for task in ("first", "held") for _ in range(3)
    ]
    for one in answers:
        lines = (run.path / "predictions" / one.name / f"{one.task}.jsonl").read_text().splitlines()
        (said,) = (line for line in map(json.loads, lines) if line["id"] == one.id)
        assert (one.prediction, one.gold, one.score) == (said["prediction"], said["gold"], said["score"])


def test_every_stage_asks_the_same_questions(tiny: Path) -> None:
    answers = read_answers(probed(tiny).path)["SampledAnswers"]
    asked = [[(a.task, a.id, a.question, a.picture) for a in answers if a.stage == k] for k in range(3)]
    assert asked[0] == asked[1] == asked[2] and len(set(asked[0])) == 6
    assert all(question for _, _, question, _ in asked[0])


def test_pictures_are_small_copies_made_once(tiny: Path) -> None:
    run = probed(tiny)
    folder = run.path / "probes" / "SampledAnswers"
    named = {answer.picture for answer in read_answers(run.path)["SampledAnswers"]}
    assert named == {f"pictures/{path.name}" for path in (folder / "pictures").iterdir()}
    answer = read_answers(run.path)["SampledAnswers"][0]
    row = next(r for r in run.module.data.eval_rows(run.module.data.tasks[0]) if r.id == answer.id)
    with Image.open(folder / str(answer.picture)) as small:
        assert small.size == (48, 48)
        assert isinstance(row.images[0], Image.Image)
        shade = zip(small.getpixel((9, 9)), row.images[0].getpixel((9, 9)), strict=True)  # type: ignore[arg-type]  # RGB
        assert all(abs(a - b) < 4 for a, b in shade)


def test_nothing_is_generated_where_the_stage_was_measured_and_the_same_is_said_where_it_was_not(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = probed(tiny)
    calls: list[int] = []

    def counted(*arguments: Any) -> list[str]:
        calls.append(1)
        return generate(*arguments)

    monkeypatch.setattr("lmmcl.probing.probe.generate", counted)
    # The answers in a batch of their own, of a run that measures nothing; the base model's are compared.
    module = toy_module(tiny, tmp_path)
    probe = SampledAnswers(samples=3, tasks=["first", "held"], picture_size=16)
    toy_trainer(callbacks=[probe]).fit(module, toy_data())
    mine, theirs = (read_answers(path)["SampledAnswers"] for path in (tmp_path, run.path))
    assert len(calls) == 6, "two tasks at three stages; the measured run called none of them"
    assert [(a.id, a.prediction, a.score) for a in mine] == [(a.id, a.prediction, a.score) for a in theirs]
    with Image.open(tmp_path / "probes" / "SampledAnswers" / str(mine[0].picture)) as small:
        assert small.size == (16, 16)
    with pytest.raises(
        UserError, match="tasks must be tasks of the run, got 'chess'; it has first, second, held"
    ):
        SampledAnswers(tasks=["chess"]).chosen(module)


@pytest.mark.parametrize("options", [{"samples": 0}, {"picture_size": 8}, {"batch_size": 0}])
def test_a_value_out_of_range_is_named(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"SampledAnswers.{next(iter(options))}"):
        SampledAnswers(**options)
