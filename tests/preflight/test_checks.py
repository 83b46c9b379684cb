"""The small checks: mask, recipes, steps, disk, tasks; and the cheap part that `fit` runs."""

import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lmmcl import ContinualLMM, TaskSequenceDataModule
from lmmcl.data.batches.collate import Collator
from lmmcl.preflight import cheap, failed
from lmmcl.preflight.mask import check_mask, pieces
from lmmcl.preflight.recipes import check_recipes
from lmmcl.preflight.space import check_space
from lmmcl.preflight.spread import spread
from lmmcl.preflight.steps import check_steps
from lmmcl.preflight.tasks import load_tasks
from lmmcl.sequence.disk import disk_need
from lmmcl.structure.anatomy import Anatomy
from lmmcl.structure.recipe_table import on_meta
from tests.data.processors import FAMILIES, row, say, simple
from tests.preflight.planted import PlantedSet
from tests.toy import toy_data, toy_module, toy_task


@pytest.mark.parametrize("family", FAMILIES)
def test_pieces_are_prompt_pictures_and_answers_and_the_labels_decode_back(family: str) -> None:
    processor = FAMILIES[family]()
    two = row(
        "a",
        say("user", "IMAGE", "Which?"),
        say("assistant", "red"),
        say("user", "And?"),
        say("assistant", "3"),
    )
    found = list(check_mask(processor, [(toy_task("mine", 0), two)]))
    assert [one.level for one in found] == ["ok"]


def test_a_sample_is_cut_where_its_tokens_change_their_kind(tiny: Path, tmp_path: Path) -> None:
    module = toy_module(tiny, tmp_path)
    image = module.checkpoint.config().image_token_id
    cut = pieces(Collator(module.processor, None, always_image=False), simple("a", "How?", "3"), image)
    assert [(piece.kind, piece.text) for piece in cut] == [
        ("prompt", "<|user|>"),
        ("image", ""),
        ("prompt", "How?<|end|><|assistant|>"),
        ("answer", "3<|end|>"),
    ]
    assert cut[1].tokens == 16


def recipes(module: ContinualLMM, data: TaskSequenceDataModule) -> list[tuple[str, str]]:
    anatomy = Anatomy.of(on_meta(module.checkpoint))
    return [(one.level, one.task) for one in check_recipes(module, data, anatomy)]


def test_every_recipe_of_the_run_is_counted_and_one_that_matches_nothing_fails(
    tiny: Path, tmp_path: Path
) -> None:
    assert recipes(toy_module(tiny, tmp_path), toy_data()) == [("ok", "first"), ("ok", "second")]
    module = toy_module(tiny, tmp_path, recipe="llm.nothing")
    assert recipes(module, toy_data()) == [("failure", "first"), ("ok", "second")]


def test_steps_are_those_that_fit_would_take(tiny: Path) -> None:
    found = list(check_steps(toy_data(micro_batch_size=2), world=2))
    assert found[0].text == "20 rows, 1 epoch: 3 steps of 8 samples, 2 forwards each"
    assert found[-1].text == "6 steps in all; 21 answers measured 3 times: 63"


def test_more_processes_than_samples_in_a_step_are_a_failure() -> None:
    assert [one.level for one in check_steps(toy_data(), world=16)] == ["failure", "failure", "ok"]


class Usage(NamedTuple):
    free: int


def test_a_disk_that_is_too_small_fails_and_one_that_is_tight_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numel, trained = {"a": 1000, "b": 500}, [{"a": "llm.norm"}, {"b": "llm.norm"}]
    need = disk_need(numel, trained).total
    for free, level in ((2 * need, "ok"), (need + 1, "warning"), (need - 1, "failure")):
        monkeypatch.setattr("lmmcl.sequence.disk.shutil.disk_usage", lambda path, free=free: Usage(free))
        assert [one.level for one in check_space(tmp_path / "run", numel, trained)] == [level]


def test_a_task_that_does_not_load_hides_no_other(tmp_path: Path) -> None:
    planted = PlantedSet(tmp_path)
    planted.write()
    arguments: dict[str, Any] = {"tasks": ["cuont", planted.task, "count"], "held_out": ["chart", "chrat"]}
    data, found = load_tasks(arguments)
    assert data is not None
    assert [task.name for task in (*data.tasks, *data.held_out)] == ["shelf", "count", "chart"]
    assert [(one.level, one.task) for one in found] == [("failure", "cuont"), ("failure", "chrat")]


def test_a_task_that_breaks_in_any_way_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = PlantedSet(tmp_path)
    planted.write()
    (tmp_path / "badly_written.py").write_text("def f(:\n")
    monkeypatch.syspath_prepend(tmp_path)

    broken: dict[str, Any] = {**planted.task, "task": "broken", "image_folder": 3}
    scored: dict[str, Any] = {**planted.task, "task": "scored", "scorer": "badly_written.f"}
    typed: dict[str, Any] = {**planted.task, "task": "typed", "epochs": [1]}
    data, found = load_tasks({"tasks": [broken, scored, typed, planted.task]})
    assert data is not None
    assert [task.name for task in data.tasks] == ["shelf"]
    assert [(one.level, one.task) for one in found] == [
        ("failure", "broken"),
        ("failure", "scored"),
        ("failure", "typed"),
    ]
    assert "broken.image_folder must be the path of a folder, got 3" in found[0].text
    assert "scored.scorer: badly_written.f cannot be imported (SyntaxError: " in found[1].text


def test_no_task_at_all_is_one_failure() -> None:
    data, found = load_tasks({"tasks": []})
    assert data is None
    assert [one.level for one in found] == ["failure"]


def test_workers_give_the_same_results_in_the_same_order() -> None:
    jobs = list(range(20))
    assert list(spread(jobs, lambda job: job * job, 2)) == list(spread(jobs, lambda job: job * job, 0))


def test_the_cheap_part_passes_the_demo_in_a_second(tmp_path: Path) -> None:
    module = ContinualLMM("mini", run=tmp_path)
    names = ["species", "count", "tissue", "word", "clock"]
    data = TaskSequenceDataModule(names, ["diagram", "chart"], max_eval_samples=100)
    start = time.process_time()
    found = cheap(module, data)
    assert not failed(found), found
    assert time.process_time() - start < 3  # about one where nothing else runs


def test_the_cheap_part_finds_what_is_wrong_with_the_first_rows_and_the_recipe(
    tiny: Path, tmp_path: Path
) -> None:
    planted = PlantedSet(tmp_path)
    planted.rows["train"][1]["conversations"][1]["value"] = "blue"
    planted.write()
    module = toy_module(tiny, tmp_path / "run", recipe="llm.nothing")
    found = cheap(module, TaskSequenceDataModule([planted.task]))
    assert {(one.level, one.check) for one in found if one.level != "ok"} == {
        ("warning", "scorer"),
        ("failure", "recipe"),
    }
