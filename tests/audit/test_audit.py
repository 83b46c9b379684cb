"""The audit's oracles: a model against itself, one group alone, both ends of α, an adapter and its merge."""

from pathlib import Path

import pytest
import torch
from peft import LoraConfig

from lmmcl.audit import Audit, Auditor
from lmmcl.audit.candidate import Candidate
from lmmcl.audit.files import to_dict
from lmmcl.audit.two_models import tensors_of
from lmmcl.evaluation.predictions import PredictionStore
from tests.audit.broken import Broken, auditor, moved_copy, write_data
from tests.audit.test_adapter import adapter

BUDGET = 30.0
"""What 16 rows for dev can show."""


@pytest.fixture(scope="module")
def audited(broken: Broken, tmp_path_factory: pytest.TempPathFactory) -> tuple[Auditor, Audit, Path]:
    folder = tmp_path_factory.mktemp("audited")
    made = auditor(broken.base, broken.tuned, broken.data, folder)
    return made, made.run(budget=BUDGET), folder


def test_a_model_against_itself_gained_and_lost_nothing(broken: Broken, tmp_path: Path) -> None:
    found = auditor(broken.base, broken.base, broken.data, tmp_path).run(budget=0.0)
    assert not [change for change in found.groups if change.changed]
    for change in found.verdict.tasks:
        assert (change.change.value, change.change.low, change.change.high) == (0.0, 0.0, 0.0)
    assert found.verdict.flips == [] and found.by_alpha == ()


def test_what_was_learned_and_lost_is_seen(audited: tuple[Auditor, Audit, Path]) -> None:
    _, found, _ = audited
    new, held = found.verdict.tasks
    assert (held.before, new.after) == (100.0, 100.0)
    assert found.verdict.learning is not None and found.verdict.learning.low > 0
    assert found.verdict.held_out.high < 0
    lost = [one for one in found.verdict.lost if one.task == "held"]
    assert len(lost) == round(held.n * held.flips.lost) > 0
    assert all(one.critical and one.before == one.gold and one.question for one in lost)


def test_alpha_one_is_the_base_and_alpha_zero_the_tuned_model(audited: tuple[Auditor, Audit, Path]) -> None:
    made, found, folder = audited
    first, last = found.by_alpha[0], found.by_alpha[-1]
    assert (first.candidate.alpha, last.candidate.alpha) == (0.0, 1.0)
    assert (last.held_out.value, last.held_out.low, last.held_out.high) == (0.0, 0.0, 0.0)
    assert (first.given_back.value, first.given_back.low) == (0.0, 0.0)
    # Not by the books: the model object, filled with a mixture and then with the base, holds the base's bytes.
    made.speaker.take(Candidate.everywhere(made.two.moved, 0.5))
    made.speaker.take(Candidate.everywhere(made.two.moved, 1.0))
    held = tensors_of(made.two.model)
    assert all(torch.equal(held[name], value) for name, value in made.two.base.items())
    made.speaker.take(Candidate.everywhere([], 0.0))
    assert all(torch.equal(held[name], value) for name, value in made.two.tuned.items())
    kept = {path.name for path in (folder / "predictions" / "dev").iterdir()}
    assert {"base", "tuned", "alpha-0.5", "back-llm.mlp.up"} <= kept


def test_mixtures_are_measured_with_their_own_weights(
    audited: tuple[Auditor, Audit, Path], broken: Broken, tmp_path: Path
) -> None:
    made, _, folder = audited
    # A folder that holds the mixture, made apart, and audited as a model of its own, gives the same answers.
    only = moved_copy(broken.base, tmp_path / "only", {"llm.mlp.up": 0.02, "llm.attn.v": 0.0})
    again = auditor(broken.base, only, broken.data, tmp_path / "again").run(budget=0.0, search=False)
    tasks = made.questions.tasks
    mixture = made._measurer.measure(Candidate.without(["llm.attn.v"]), "test", tasks)
    held = PredictionStore(tmp_path / "again" / "predictions" / "test")
    for task in tasks:
        said = [example.prediction for example in held.read("tuned", task.name).examples]
        assert said == [example.prediction for example in mixture[task.name].examples]
    assert again.verdict.candidate.kind == "tuned"
    assert (folder / "predictions" / "test" / "back-llm.attn.v").exists()


def test_a_model_tuned_in_one_group_gets_all_back_by_it(broken: Broken, tmp_path: Path) -> None:
    tuned = moved_copy(broken.base, tmp_path / "tuned", {"llm.attn.q": 0.3})
    found = auditor(broken.base, tuned, broken.data, tmp_path / "run").run(budget=0.0)
    assert [change.group for change in found.groups if change.changed] == ["llm.attn.q"]
    assert found.verdict.held_out.value < 0
    (alone,) = found.by_group
    assert alone.candidate.groups == ["llm.attn.q"]
    assert (alone.held_out.value, alone.held_out.low, alone.kept) == (0.0, 0.0, 0.0)
    assert found.sets == []


def test_the_chosen_mixture_stays_within_the_budget_on_the_rows_that_choose(
    audited: tuple[Auditor, Audit, Path],
) -> None:
    _, found, _ = audited
    assert found.choice is not None and found.choice.best is not None and found.best is not None
    assert -found.choice.best.held_out.low <= found.budget
    assert any("fewer than 30 rows for dev: held (" in note for note in found.notes)
    assert not found.by_alpha[0].within(found.budget)
    assert found.best.held_out.value > found.verdict.held_out.value
    inside = [t for t in (*found.by_group, *found.sets) if t.within(found.budget) and t.kept > 0]
    assert all(found.choice.best.learned >= trial.learned for trial in inside)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")  # peft asks in an old way
def test_an_adapter_is_audited_as_the_folder_that_it_merges_to(broken: Broken, tmp_path: Path) -> None:
    wrapped = adapter(
        broken.base, tmp_path / "adapter", LoraConfig(r=4, target_modules=["up_proj", "q_proj"])
    )
    merged = moved_copy(broken.base, tmp_path / "merged", {})
    wrapped.merge_and_unload().save_pretrained(merged)
    found = [
        to_dict(
            auditor(broken.base, tuned, broken.data, tmp_path / "runs" / tuned.name).run(5.0, search=False)
        )
        for tuned in (tmp_path / "adapter", merged)
    ]
    for one in found:
        del one["tuned"]
        for group in one["groups"]:
            group["distance"] = round(group["distance"], 5)
            group["moved"] = round(group["moved"], 5)
    assert found[0] == found[1]
    assert {g["group"] for g in found[0]["groups"] if g["changed"]} >= {"llm.attn.q", "llm.mlp.up"}


def test_the_second_audit_asks_nothing(audited: tuple[Auditor, Audit, Path], broken: Broken) -> None:
    _, first, folder = audited
    asked: list[str] = []
    again = auditor(broken.base, broken.tuned, broken.data, folder)
    again._measurer._progress = lambda candidate, task, done, total: asked.append(candidate)
    assert to_dict(again.run(budget=BUDGET)) == to_dict(first)
    assert asked == []


def test_answers_are_found_by_how_they_were_scored(
    audited: tuple[Auditor, Audit, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, found, _ = audited
    assert found.settings["scoring"] == "robust"
    task, voice = made.questions.tasks[0], made.two.voices["tuned"]
    key = made._measurer._key(task, "test", "weights", voice)
    monkeypatch.setattr(made.questions.data, "scoring", "lmms-eval")
    assert made._measurer._key(task, "test", "weights", voice) != key


def test_what_has_no_rows_for_dev_chooses_nothing_and_is_said(broken: Broken, tmp_path: Path) -> None:
    data = write_data(tmp_path, {"new": broken.tuned, "held": broken.base}, count=8)
    data.write_text(data.read_text().replace("dev: 0.5\n", "dev: 0.0\n").replace("test: 0.5", "test: 1.0"))
    found = auditor(broken.base, broken.tuned, data, tmp_path / "run").run(budget=2.0)
    assert found.choice is None
    assert any("held: no rows for dev" in note and "nothing is chosen at all" in note for note in found.notes)


def test_bf16_changes_how_answers_are_made_and_not_the_models(broken: Broken, tmp_path: Path) -> None:
    made = auditor(broken.base, broken.tuned, broken.data, tmp_path, precision="bf16-mixed")
    found = made.run(budget=10.0, search=False)
    assert found.settings["precision"] == "bf16-mixed"
    held = tensors_of(made.two.model)
    assert {value.dtype for value in held.values()} == {torch.float32}
