"""Flipped answers are found row by row, critical ones first, with the question and a small picture of some."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from lmmcl.data.row import Row
from lmmcl.evaluation.flip_pictures import GAINED, LOST, keep_flips, question, small_jpeg
from lmmcl.evaluation.flipped_examples import flipped_examples, picture_name, read_flips
from lmmcl.evaluation.matrix import Matrix
from lmmcl.evaluation.predictions import PredictionStore
from lmmcl.evaluation.result import Example, TaskResult, is_critical


def result(task: str, scores: Sequence[float], critical: Sequence[int] = ()) -> TaskResult:
    examples = [
        Example(f"r/{i}", f"said {score}", ["gold"], score, critical=i in critical)
        for i, score in enumerate(scores)
    ]
    return TaskResult(task, examples)


def write_run(run: Path, before: Sequence[TaskResult], after: Sequence[TaskResult]) -> None:
    matrix = Matrix(["a"], ["x"])
    store = PredictionStore(run / "predictions")
    for k, (name, results) in enumerate((("00-base", before), ("01-a", after))):
        matrix.put(k, name, results)
        for one in results:
            store.write(name, "key", one)
    matrix.save(run)


def rows(n: int, side: int = 900) -> list[Row]:
    def row(i: int) -> Row:
        text = [{"type": "image"}, {"type": "text", "text": f"what is {i}?"}]
        turns = [
            {"role": "user", "content": text},
            {"role": "assistant", "content": [{"type": "text", "text": "x"}]},
        ]
        return Row(f"r/{i}", turns, [Image.new("RGB", (side, side // 2), (i % 256, 90, 30))])

    return [row(i) for i in range(n)]


def test_flips_are_found_by_id_among_the_rows_that_both_measured() -> None:
    before, after = result("a", [1, 1, 0, 0, 1]), result("a", [1, 0, 1, 0])
    found = flipped_examples(before, TaskResult("a", after.examples[::-1]))
    assert [(one.id, one.direction) for one in found] == [("r/2", "gained"), ("r/1", "lost")]
    gained, lost = found
    assert (lost.before, lost.after, lost.gold) == ("said 1", "said 0", ["gold"])
    assert (lost.score_before, lost.score_after, lost.cause) == (1, 0, "content")
    assert gained.cause == "content"


def test_a_run_lists_its_flips_targets_first_critical_first(tmp_path: Path) -> None:
    write_run(
        tmp_path,
        [result("a", [0, 1, 1]), result("x", [1, 1, 0, 1], critical=[3])],
        [result("a", [1, 0, 1]), result("x", [0, 1, 1, 0], critical=[3])],
    )
    found = [(one.task, one.id, one.direction, one.critical) for one in read_flips(tmp_path)]
    assert found == [
        ("a", "r/1", "lost", False),
        ("a", "r/0", "gained", False),
        ("x", "r/3", "lost", True),
        ("x", "r/0", "lost", False),
        ("x", "r/2", "gained", False),
    ]
    assert [one.task for one in read_flips(tmp_path, ["x"])] == ["x"] * 3
    assert all(one.picture is None and one.question is None for one in read_flips(tmp_path))


def test_a_run_of_the_base_model_alone_has_no_flips(tmp_path: Path) -> None:
    matrix = Matrix(["a"], [])
    matrix.put(0, "00-base", [result("a", [1])])
    matrix.save(tmp_path)
    assert read_flips(tmp_path) == []


def test_questions_and_small_pictures_of_some_are_kept_with_the_same_bytes(tmp_path: Path) -> None:
    n = 30
    before = [result("a", [1] * 20 + [0] * 10), result("x", [1] * n)]
    after = [result("a", [0] * 20 + [1] * 10, critical=[15]), result("x", [1] * n)]
    write_run(tmp_path, before, after)
    keep_flips(tmp_path, {"a": rows(n), "x": rows(n)})
    kept = [one for one in read_flips(tmp_path) if one.picture is not None]
    assert [one.id for one in kept if one.direction == "lost"] == [
        "r/15",
        *(f"r/{i}" for i in range(LOST - 1)),
    ]
    assert [one.id for one in kept if one.direction == "gained"] == [f"r/{i}" for i in range(20, 20 + GAINED)]
    assert kept[0].question == "what is 15?"
    assert kept[0].picture is not None
    with Image.open(kept[0].picture) as picture:
        assert (picture.size, picture.format) == ((320, 160), "JPEG")
    files = {path: path.read_bytes() for path in (tmp_path / "flips").rglob("*.*")}
    assert len(files) == LOST + GAINED + 1
    keep_flips(tmp_path, {"a": rows(n), "x": rows(n)})
    assert {path: path.read_bytes() for path in (tmp_path / "flips").rglob("*.*")} == files


def test_a_picture_that_is_gone_is_told_and_the_rest_is_kept(tmp_path: Path) -> None:
    write_run(tmp_path, [result("a", [1, 1])], [result("a", [0, 0])])
    held = rows(2)
    broken = Row("r/0", held[0].messages, [tmp_path / "gone.png"])
    with pytest.warns(UserWarning, match="no picture of row r/0"):
        keep_flips(tmp_path, {"a": [broken, held[1]]})
    found = read_flips(tmp_path)
    assert [(one.question, one.picture is None) for one in found] == [
        ("what is 0?", True),
        ("what is 1?", False),
    ]


def test_a_small_picture_keeps_its_size_and_the_question_is_the_last_one() -> None:
    picture = Image.new("RGB", (40, 30), "red")
    assert small_jpeg(picture) == small_jpeg(picture)
    assert picture.size == (40, 30)
    row = rows(1)[0]
    turns = [
        *row.messages[:1],
        {"role": "assistant", "content": []},
        {"role": "user", "content": [{"type": "text", "text": " and now? "}]},
    ]
    assert question(Row("r", turns)) == "and now?"
    assert picture_name("../etc/passwd").count("/") == 0


@pytest.mark.parametrize(
    ("mark", "said"),
    [
        *((mark, True) for mark in (True, "true", " Yes ", "1", 1)),
        *((mark, False) for mark in (False, "false", "", None, "no", 0)),
    ],
)
def test_a_mark_means_what_it_says_also_in_a_table_without_types(mark: object, said: bool) -> None:
    assert is_critical(mark) is said
