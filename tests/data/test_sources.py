"""Files on disk: the forms, the parts, and every mistake with its file and row."""

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from lmmcl.data.pictures.picture import open_picture
from lmmcl.data.row import Row
from lmmcl.data.sources import FileSource
from lmmcl.errors import UserError
from tests.data.processors import say

IMAGE, QUESTION = {"type": "image"}, {"type": "text", "text": "What is it?"}


@pytest.fixture(autouse=True)
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    Path("pictures").mkdir()
    for name, colour in (("a", "red"), ("b", "blue")):
        Image.new("RGB", (8, 6), colour).save(f"pictures/{name}.png")


def write(records: list[Any], name: str = "rows.jsonl") -> Path:
    path = Path(name)
    if path.suffix == ".json":
        path.write_text(json.dumps(records))
    else:
        path.write_text("\n".join(map(json.dumps, records)) + "\n")
    return path


def only(record: Any, name: str = "rows.jsonl", **options: Any) -> Row:
    """The row of a file's only record."""
    (row,) = FileSource(write([record], name), held_out=True, split={"test": 1.0}, **options).split("test")
    return row


def plain(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [{"id": f"r{i}", "question": f"q {i}", "answer": "A"} for i in range(first, first + count)]


def colours(row: Row) -> list[Any]:
    return [open_picture(image, "here").getpixel((0, 0)) for image in row.images]


def test_llava_json_with_an_image_folder() -> None:
    turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A bird."}]
    row = only({"id": 7, "image": "a.png", "conversations": turns}, "rows.json", image_folder="pictures")
    assert row.id == "7"
    assert row.messages == [{"role": "user", "content": [IMAGE, QUESTION]}, say("assistant", "A bird.")]
    assert (row.gold, row.answer) == ("A bird.", "A bird.")
    assert colours(row) == [(255, 0, 0)]


def test_messages_with_texts_and_placeholders() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "<image>\nand\n<image>\nWhat is it?"},
        {"role": "assistant", "content": "Two <image>"},
    ]
    row = only({"messages": messages, "images": ["pictures/b.png", "pictures/a.png"]})
    assert row.messages[0] == say("system", "Be brief.")
    assert row.messages[1]["content"] == [IMAGE, {"type": "text", "text": "and"}, IMAGE, QUESTION]
    assert row.messages[2] == say("assistant", "Two <image>")
    assert colours(row) == [(0, 0, 255), (255, 0, 0)]
    assert row.id == "1"


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "image": "pictures/b.png"},
        {"type": "image", "path": "pictures/b.png"},
        {"type": "image_url", "image_url": {"url": "pictures/b.png"}},
    ],
)
def test_image_parts_that_name_their_picture(part: dict[str, Any]) -> None:
    user = {"role": "user", "content": [QUESTION, part]}
    row = only({"messages": [user, {"role": "assistant", "content": [{"type": "text", "text": "yes"}]}]})
    assert row.messages == [{"role": "user", "content": [QUESTION, IMAGE]}, say("assistant", "yes")]
    assert colours(row) == [(0, 0, 255)]


def test_pictures_without_a_place_come_first_in_the_first_question() -> None:
    row = only({"question": "What is it?", "answer": "A", "image": "pictures/a.png"})
    assert row.messages[0]["content"] == [IMAGE, QUESTION]


def test_columns_may_have_other_names_and_the_rest_is_meta() -> None:
    record = {
        "q": "What?",
        "a": 3,
        "pic": "pictures/a.png",
        "options": ["x"],
        "category": "c",
        "critical": True,
        "gold": [1],
    }
    row = only(record, columns={"question": "q", "answer": "a", "image": "pic"})
    assert row.answer == "3"
    assert row.gold == [1]
    assert row.meta == {"options": ["x"], "category": "c", "critical": True}


def test_image_and_images_of_one_record_are_not_added_up() -> None:
    both = {**GOOD, "image": "pictures/a.png", "images": ["pictures/a.png"]}
    assert colours(only(both)) == [(255, 0, 0)]
    other = {**both, "images": ["pictures/b.png"]}
    assert colours(only(other, columns={"image": "image"})) == [(255, 0, 0)]
    assert colours(only(other, columns={"image": "images"})) == [(0, 0, 255)]


def test_a_number_that_gaps_made_a_float_is_whole_again() -> None:
    row = only({"question": "q", "answer": 3.0, "gold": float("nan")})
    assert (row.answer, row.gold) == ("3", "3")
    assert only({"question": "q", "answer": 2.5, "gold": 4.0}).gold == 4
    assert only({"question": "q", "answer": 2.5}).answer == "2.5"


@pytest.mark.parametrize("declared", [True, False])
def test_parquet_with_pictures_inside(declared: bool) -> None:
    inside = [{"bytes": Path(f"pictures/{name}.png").read_bytes(), "path": None} for name in "ab"]
    table = datasets.Dataset.from_dict(
        {"question": ["What is it?"] * 2, "answer": ["A", "B"], "image": inside}
    )
    if declared:
        table = table.cast_column("image", datasets.Image())
    table.to_parquet("rows.parquet")
    rows = FileSource("rows.parquet", held_out=True, split={"test": 1.0}).split("test")
    assert [colours(row) for row in rows] == [[(255, 0, 0)], [(0, 0, 255)]]
    assert rows[1].messages == [{"role": "user", "content": [IMAGE, QUESTION]}, say("assistant", "B")]


def test_parquet_with_messages_and_lists_of_pictures() -> None:
    user = {
        "role": "user",
        "content": [{"type": "image", "text": None}, {"type": "text", "text": "What is it?"}],
    }
    reply = {"role": "assistant", "content": [{"type": "text", "text": "A"}]}
    data = {"messages": [[user, reply]], "images": [["pictures/b.png"]], "category": ["c"]}
    table = datasets.Dataset.from_dict(data).cast_column("images", datasets.List(datasets.Image()))
    table.to_parquet("rows.parquet")
    (row,) = FileSource("rows.parquet", held_out=True, split={"test": 1.0}).split("test")
    assert row.messages == [{"role": "user", "content": [IMAGE, QUESTION]}, say("assistant", "A")]
    assert colours(row) == [(0, 0, 255)]
    assert row.meta == {"category": "c"}


def test_a_single_file_is_split_by_the_ids_alone() -> None:
    source = FileSource(write(plain(400)))
    parts = {part: [row.id for row in source.split(part)] for part in ("train", "dev", "test")}
    assert sorted(name for names in parts.values() for name in names) == sorted(f"r{i}" for i in range(400))
    assert [round(len(parts[part]) / 400, 1) for part in parts] == [0.8, 0.1, 0.1]
    more = FileSource(write(list(reversed(plain(500)))))
    assert set(parts["test"]) <= {row.id for row in more.split("test")}


def test_shares_may_be_stated() -> None:
    source = FileSource(write(plain(100)), split={"train": 0.5, "test": 0.5})
    assert 35 < len(source.split("test")) < 65
    with pytest.raises(UserError, match="must have rows for dev"):
        source.split("dev")


def test_dev_is_cut_from_train_where_parts_have_files() -> None:
    train, test = write(plain(100), "train.jsonl"), write(plain(30, 100), "test.jsonl")
    source = FileSource({"train": train, "test": test})
    assert len(source.split("test")) == 30
    assert len(source.split("train")) + len(source.split("dev")) == 100


def test_parts_with_files_of_their_own_are_taken_as_they_are() -> None:
    paths = {
        part: write(plain(5, 10 * i), f"{part}.jsonl") for i, part in enumerate(("train", "dev", "test"))
    }
    source = FileSource(paths)
    assert [len(source.split(part)) for part in ("train", "dev", "test")] == [5, 5, 5]
    assert source.stem == "test"


def test_the_fingerprint_changes_with_rows_pictures_and_shares() -> None:
    records = [{**record, "image": "pictures/a.png"} for record in plain(50)]
    first = FileSource(write(records)).fingerprint()
    assert FileSource(write(records)).fingerprint() == first
    assert FileSource(write(records), split={"train": 0.5, "test": 0.5}).fingerprint() != first
    assert FileSource(write(records[:-1])).fingerprint() != first
    Image.new("RGB", (80, 60), "green").save("pictures/a.png")
    assert FileSource(write(records)).fingerprint() != first


GOOD = {"question": "q", "answer": "A"}
ASKED, SAID = {"role": "user", "content": "q"}, {"role": "assistant", "content": "A"}
TALK = {"messages": [ASKED, SAID]}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([1], "row 2: a row must be a JSON object"),
        ({"question": "q"}, r"row 2: .*there is no 'answer' among question.*columns"),
        ({"question": "q", "answer": " "}, "row 2: an answer must not be empty"),
        ({**GOOD, "id": "1"}, "row 2: the id '1' stands in row 1 already"),
        ({**GOOD, "image": "pictures/c.png"}, r"row 2: there is no picture pictures/c\.png"),
        ({**GOOD, "image": "https://x.org/a.png"}, "row 2: a picture must be a file on disk"),
        ({**GOOD, "image": 3}, "row 2: a picture must be a path to a file, got 3"),
        (
            {**GOOD, "image": "pictures/a.png", "images": ["pictures/b.png"]},
            "row 2: .*must stand in one column",
        ),
        ({"question": "q", "answer": float("nan")}, "row 2: its answer must not be empty, got nan"),
        ({"question": "<image> q", "answer": "A"}, "row 2: .*got 0 pictures for 1 places"),
        ({"messages": [{"role": "user", "content": "x"}]}, "row 2: the last turn must be the assistant's"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "row 2: a role must be one of .*got 'tool'"),
        ({"messages": [{"content": "x"}]}, "row 2: a turn must have the key 'role' or 'from'"),
        ({"messages": [{"role": "user", "content": 3}]}, "row 2: a turn's content must be a text or a list"),
        (
            {"messages": [{"role": "user", "content": [{"type": "audio"}]}]},
            "row 2: a part of a turn must be a text",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]},
            "row 2: a part of type text must hold a text, got 5",
        ),
        ({"conversations": ["x"]}, "row 2: a turn must have the key 'role' or 'from'"),
        ({**GOOD, "id": " "}, "row 2: an id must not be empty"),
        ({**GOOD, "id": "\udc80"}, "row 2: its text must be valid Unicode"),
        ({**GOOD, "gold": "\ud800"}, "row 2: its text must be valid Unicode"),
        ({**GOOD, "options": ["\ud800"]}, "row 2: its text must be valid Unicode"),
        ({**TALK, "system": "Be brief."}, "row 2: a system prompt must be the first turn"),
        ({**TALK, "tools": [{"name": "f"}]}, "row 2: a row has no tools"),
        ({**TALK, "video": "a.mp4"}, "row 2: a row shows pictures alone, got the video 'a.mp4'"),
        (
            {"messages": [ASKED, {**SAID, "reasoning_content": "hm"}]},
            "row 2: .*words must all stand in its content",
        ),
        ({"messages": [ASKED, {**SAID, "tool_calls": [1]}]}, "row 2: .*words must all stand in its content"),
        ({"messages": [ASKED, {**SAID, "weight": 0}]}, "row 2: every answer is learned alike, got weight: 0"),
    ],
)
def test_a_mistake_in_a_row_is_said_with_file_and_row(record: Any, message: str) -> None:
    with pytest.raises(UserError, match=rf"rows\.jsonl, {message}"):
        FileSource(write([{**GOOD, "id": "1"}, record]), held_out=True)


def test_rows_that_are_not_json_are_named_by_line() -> None:
    Path("rows.jsonl").write_text('{"question": "q", "answer": "A"}\n\n{"question": \n')
    with pytest.raises(UserError, match=r"rows\.jsonl, row 3: not JSON"):
        FileSource("rows.jsonl")
    Path("rows.json").write_text('[\n{"question": "q",}\n]')
    with pytest.raises(UserError, match=r"rows\.json, line 2: not JSON"):
        FileSource("rows.json")


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
def test_a_key_that_stands_twice_and_a_number_without_end_are_no_json(name: str) -> None:
    good = '{"question": "q", "answer": "A"}'
    for wrong, message in (
        ('{"question": "q", "answer": "A", "answer": "B"}', "the key 'answer' stands twice"),
        ('{"question": "q", "answer": "A", "meta": {"a": 1, "a": 2}}', "the key 'a' stands twice"),
        ('{"question": "q", "answer": ' + "1" * 5000 + "}", "4300 digits"),
    ):
        lines = [good, wrong]
        Path(name).write_text("\n".join(lines) if name.endswith("l") else f"[{', '.join(lines)}]")
        with pytest.raises(UserError, match=rf"rows\.json.*not JSON \(.*{message}"):
            FileSource(name, held_out=True)


def test_what_a_conversation_says_beside_its_turns_without_harm_is_meta() -> None:
    turns = [{"from": "system", "value": "s"}, {"from": "human", "value": "q", "weight": None}]
    turns.append({"from": "gpt", "value": "A", "weight": 1.0})
    record = {
        "conversations": turns,
        "system": "s",
        "video": "frames of 7",
        "image": "pictures/a.png",
        "tools": "[]",
    }
    row = only(record)
    assert [message["role"] for message in row.messages] == ["system", "user", "assistant"]
    assert row.meta["video"] == "frames of 7" and len(row.images) == 1


def test_row_numbers_may_stand_in_for_ids() -> None:
    records = [{**record, "id": "same"} for record in plain(3)]
    source = FileSource(write(records), columns={"id": None}, held_out=True, split={"test": 1.0})
    assert [row.id for row in source.split("test")] == ["1", "2", "3"]


def test_a_broken_picture_is_named_with_file_and_row_when_it_is_opened() -> None:
    Path("pictures/a.png").write_bytes(b"no picture")
    row = only({**GOOD, "image": "pictures/a.png"})
    with pytest.raises(UserError, match=r"rows\.jsonl, row 1: picture pictures/a\.png cannot be read"):
        open_picture(row.images[0], "here")


def test_a_broken_picture_inside_parquet_is_named_with_file_and_row() -> None:
    data = {"question": ["q"], "answer": ["A"], "image": [{"bytes": b"no picture", "path": None}]}
    datasets.Dataset.from_dict(data).to_parquet("rows.parquet")
    (row,) = FileSource("rows.parquet", held_out=True, split={"test": 1.0}).split("test")
    with pytest.raises(UserError, match=r"rows\.parquet, row 1: the picture in column image cannot be read"):
        open_picture(row.images[0], "here")


def test_a_missing_picture_inside_parquet_is_named_with_file_and_row() -> None:
    data = {
        "question": ["<image> q"] * 2,
        "answer": ["A", "B"],
        "image": [None, {"bytes": b"x", "path": None}],
    }
    datasets.Dataset.from_dict(data).to_parquet("rows.parquet")
    with pytest.raises(UserError, match=r"rows\.parquet, row 1: .*got 0 pictures for 1 places"):
        FileSource("rows.parquet", held_out=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "row.jsonl"}, r"there is no file row.jsonl .*did you mean 'rows\.jsonl'"),
        ({"path": "rows.txt"}, "must end in .json, .jsonl, .csv, .tsv, .parquet, .arrow, .tar"),
        ({"path": {"training": "rows.jsonl"}}, "mapping of train, dev, test"),
        ({"path": {"train": "rows.jsonl", "test": "rows.jsonl"}}, "files of its own"),
        ({"path": "rows.jsonl", "split": {"train": 0.5}}, "add up to 1"),
        ({"path": "rows.jsonl", "columns": {"picture": "x"}}, "columns: .*got 'picture'"),
        ({"path": "rows.jsonl", "split": {"train": 1.0}}, "must have rows for test"),
        (
            {"path": {"train": "rows.jsonl", "test": "twin.jsonl"}},
            "'r0' in .* and the same as row .* in test",
        ),
        ({"path": {"train": "rows.jsonl", "test": "empty.jsonl"}}, "empty.jsonl must hold rows"),
        (
            {"path": {"train": "rows.jsonl", "test": "twin.jsonl"}, "split": {"train": 0.5}},
            "only hold dev's share",
        ),
    ],
)
def test_a_mistake_in_the_yaml_is_said_with_the_way_out(options: dict[str, Any], message: str) -> None:
    write(plain(20))
    write([{**record, "id": f"x{record['id']}"} for record in plain(20)], "twin.jsonl")
    Path("empty.jsonl").write_text("\n")
    Path("rows.txt").write_text("x")
    with pytest.raises(UserError, match=message):
        FileSource(**options)
