"""What holds for every task of the study: its gold answers score 1, its parts share nothing, its rows stay the same."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from lmmcl.data.parse import parse_task
from lmmcl.data.task import Part
from lmmcl.data.task_settings import TaskSettings
from lmmcl.errors import UserError
from lmmcl.tasks import HELD_OUT, OTHERS, TARGETS, TASKS
from tests.tasks.conftest import ROWS
from tests.tasks.fixtures import write_fixtures
from tests.tasks.rows import pixels, rows, source, text

LIMITS = {
    "cub200": 16,
    "pixmo_count": 16,
    "path_vqa": 64,
    "text_vqa": 64,
    "time_clock": 32,
    "ai2d": 16,
    "chartqa": 16,
    "docvqa": 32,
    "infovqa": 32,
    "realworldqa": 16,
    "scienceqa": 16,
    "mmstar": 32,
    "seedbench": 16,
    "countbench": 16,
    "coco_clock": 32,
    "openimg_clock": 32,
    "ocrbench": 64,
}
TAUGHT = ("cub200", "pixmo_count", "path_vqa", "text_vqa")
every_task = pytest.mark.parametrize("name", TASKS)


def test_the_five_targets_the_eight_held_out_and_the_four_others_are_there() -> None:
    assert tuple(TASKS) == (*TARGETS, *HELD_OUT, *OTHERS)
    assert (len(TARGETS), len(HELD_OUT), len(OTHERS)) == (5, 8, 4)
    assert all(task.name == name for name, task in TASKS.items())


@every_task
def test_the_limits_of_generation_are_those_of_the_protocol(name: str) -> None:
    assert TASKS[name].max_new_tokens == LIMITS[name]


@every_task
def test_gold_answers_score_one_in_both_modes(name: str, root: Path) -> None:
    task = TASKS[name]
    assert task.lmms_eval is not None
    for row in rows(name, "test", root):
        for scorer in (task.scorer, task.lmms_eval):
            score = scorer(row.answer, row.gold, row.meta)
            assert (score.value, score.parsed) == (1.0, True), (row.answer, row.gold, row.meta)


@every_task
def test_an_empty_answer_scores_nothing_in_both_modes(name: str, root: Path) -> None:
    task = TASKS[name]
    assert task.lmms_eval is not None
    for row in rows(name, "test", root):
        assert task.scorer("", row.gold, row.meta).value == 0.0
        assert task.lmms_eval("", row.gold, row.meta).value == 0.0


@every_task
def test_a_row_asks_once_after_one_picture_and_is_answered_once(name: str, root: Path) -> None:
    for row in rows(name, "test", root):
        assert [message["role"] for message in row.messages] == ["user", "assistant"]
        assert [part["type"] for part in row.messages[0]["content"]] == ["image", "text"]
        assert "<image>" not in text(row)
        assert len(row.images) == 1


@every_task
def test_rows_are_the_same_every_time_and_in_every_process(name: str, root: Path) -> None:
    first, again = rows(name, "test", root), pickle.loads(pickle.dumps(rows(name, "test", root)))
    for one, other in zip(first, again, strict=True):
        assert (one.id, one.messages, one.gold, one.meta) == (
            other.id,
            other.messages,
            other.gold,
            other.meta,
        )
        assert pixels(one) == pixels(other)
    assert source(name, root).fingerprint() == source(name, root).fingerprint()


@every_task
def test_ids_are_unique_in_their_part(name: str, root: Path) -> None:
    ids = [row.id for row in rows(name, "test", root)]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("name", TAUGHT)
def test_train_dev_and_test_share_no_picture_although_their_files_have_the_same_names(
    name: str, root: Path
) -> None:
    parts: tuple[Part, ...] = ("train", "dev", "test")
    seen = {part: {shown for row in rows(name, part, root) for shown in pixels(row)} for part in parts}
    assert all(seen.values())
    assert not seen["train"] & seen["test"]
    assert not seen["train"] & seen["dev"]
    assert not seen["dev"] & seen["test"]


@pytest.mark.parametrize("name", [name for name in TASKS if name not in TAUGHT])
def test_dev_is_cut_from_the_test_rows_of_a_task_that_is_only_measured(name: str, root: Path) -> None:
    test, dev = (
        {shown for row in rows(name, part, root) for shown in pixels(row)} for part in ("test", "dev")
    )
    assert dev
    assert not test & dev


@pytest.mark.parametrize("name", [name for name in TASKS if name not in TAUGHT])
def test_a_task_without_training_rows_says_how_to_give_them(name: str, root: Path) -> None:
    with pytest.raises(
        UserError, match=r"^data\.tasks: " + name + r" has no public training rows; .*train: rows\.jsonl"
    ):
        rows(name, "train", root)


@pytest.mark.parametrize("name", TAUGHT)
def test_training_asks_in_other_words_than_evaluation(name: str, root: Path) -> None:
    asked = {text(row) for row in rows(name, "train", root)}
    assert not asked & {text(row) for row in rows(name, "test", root)}
    assert not asked & {text(row) for row in rows(name, "dev", root)}


def test_nothing_is_loaded_before_rows_are_asked_for(tmp_path: Path) -> None:
    sources: list[Any] = [source(name, tmp_path / "nowhere") for name in TASKS]
    for one in sources:
        with pytest.raises(UserError, match=r"data\.root: "):
            one.split("test")


def test_a_copy_has_as_many_rows_as_the_maker_was_asked_for(root: Path) -> None:
    counts = {
        name: len(rows(name, "test", root)) for name in ("cub200", "pixmo_count", "path_vqa", "text_vqa")
    }
    assert set(counts.values()) == {ROWS}


def test_two_copies_of_one_data_set_are_not_mistaken_for_each_other(root: Path, tmp_path: Path) -> None:
    """What `datasets` prepares of a local folder, it finds again by the folder's name and card alone."""
    write_fixtures(tmp_path, 5)
    assert len(rows("ai2d", "test", root)) != len(rows("ai2d", "test", tmp_path)) == 5


def test_a_copy_with_newer_files_gives_the_newer_rows(tmp_path: Path) -> None:
    write_fixtures(tmp_path, 5)
    assert len(rows("ai2d", "test", tmp_path)) == 5
    write_fixtures(tmp_path, 6)
    assert len(rows("ai2d", "test", tmp_path)) == 6


def test_the_lmms_eval_mode_measures_a_published_split_whole(root: Path) -> None:
    settings = TaskSettings(root, scoring="lmms-eval")
    for spec in ("ai2d", {"task": "ai2d", "train": str(own_rows(root))}):
        source = parse_task(spec, settings=settings).source
        whole = parse_task("ai2d", settings=TaskSettings(root)).source
        assert len(source.split("test")) == len(whole.split("test")) + len(whole.split("dev"))
        with pytest.raises(UserError, match=r"no row is left for dev .* by scoring: robust"):
            source.split("dev")


def own_rows(root: Path) -> Path:
    path = root / "own.jsonl"
    path.write_text(json.dumps({"id": 1, "question": "Which letter?", "answer": "A"}) + "\n")
    return path
