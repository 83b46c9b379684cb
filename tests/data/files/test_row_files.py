"""Every kind of file and folder that a path may name."""

import csv
import json
import os
import pickle
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from PIL import Image

from lmmcl.data.files.row_files import part_files
from lmmcl.data.pictures.picture import open_picture
from lmmcl.data.row import Row
from lmmcl.data.sources import FileSource
from lmmcl.data.task import PARTS
from lmmcl.errors import UserError
from tests.data.processors import say


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def picture(path: str, colour: str = "red") -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), colour).save(path)
    return path


def records(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [{"question": f"q {i}", "answer": f"a {i}"} for i in range(first, first + count)]


def jsonl(path: str, rows: list[Any]) -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Any, **options: Any) -> list[Row]:
    return list(FileSource(path, held_out=True, split={"test": 1.0}, **options).split("test"))


def answers(path: Any, **options: Any) -> list[str]:
    return [row.answer for row in read(path, **options)]


def test_csv_with_quotes_line_breaks_empty_cells_and_lists() -> None:
    picture("a.png")
    Path("rows.csv").write_text(
        "\ufeffquestion,answer,image,options,category\n"
        '"What, ""this""?\nSay it.",A,a.png,"[""x"", ""y""]",\n\n'
        "Why?,007,,,c\n",
        encoding="utf-8",
    )
    first, second = read("rows.csv")
    assert first.messages[0]["content"][1]["text"] == 'What, "this"?\nSay it.'
    assert first.meta == {"options": ["x", "y"]}
    assert len(first.images) == 1
    assert (second.id, second.answer, second.meta, second.images) == ("2", "007", {"category": "c"}, ())


def test_a_cell_of_csv_may_hold_a_long_text() -> None:
    long = "word " * 40_000
    Path("rows.csv").write_text(f'question,answer\n"{long}",A\n')
    (row,) = read("rows.csv")
    assert row.messages[0]["content"][0]["text"] == long.strip("\n")
    assert csv.field_size_limit() == 131_072


def test_csv_may_be_separated_by_semicolons_and_tsv_is_by_tabs() -> None:
    Path("rows.csv").write_text("question;answer\na, b;1\n")
    Path("rows.tsv").write_text("question\tanswer\na, b\t1\n")
    assert read("rows.csv")[0].messages == read("rows.tsv")[0].messages
    assert answers("rows.csv") == ["1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "question,answer\nq,1\nq,1,2\n",
            r"rows\.csv, row 2: must have a cell for each of question, answer, got 3",
        ),
        ("answer,answer\nq,1\n", r"rows\.csv: every column must have a name of its own"),
        ('question,answer\n"q,1\n', r"rows\.csv, after row 0: cannot be read"),
        ("question,answer\n", r"rows\.csv must hold rows"),
    ],
)
def test_a_broken_csv_is_named(text: str, message: str) -> None:
    Path("rows.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        read("rows.csv")


@pytest.mark.parametrize("name", ["rows.json", "rows.csv"])
def test_a_file_that_is_not_utf_8_is_named(name: str) -> None:
    Path(name).write_bytes(b'[{"question": "\xff", "answer": "A"}]')
    with pytest.raises(UserError, match=rf"{name}: must be UTF-8 text"):
        read(name)


def test_a_line_that_is_not_utf_8_is_named() -> None:
    Path("rows.jsonl").write_bytes(b'{"question": "q", "answer": "A"}\n{"question": "\xff", "answer": "A"}\n')
    with pytest.raises(UserError, match=r"rows\.jsonl, row 2: must be UTF-8 text"):
        read("rows.jsonl")


def test_lines_in_a_json_file_are_to_be_called_so() -> None:
    jsonl("rows.json", records(2))
    with pytest.raises(UserError, match=r"rows\.json, line 2: not JSON \(Extra data\); .*\.jsonl"):
        read("rows.json")


def test_half_a_character_is_a_bad_row() -> None:
    Path("rows.jsonl").write_text('{"question": "\\ud83d", "answer": "A"}\n')
    with pytest.raises(UserError, match=r"rows\.jsonl, row 1: its text must be valid Unicode"):
        read("rows.jsonl")


def test_arrow_files_of_both_formats_and_saved_datasets() -> None:
    made = datasets.Dataset.from_list(records(3))
    table = made.data.table
    with pa.OSFile("stream.arrow", "wb") as stream, pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    with pa.OSFile("file.arrow", "wb") as stream, pa.ipc.new_file(stream, table.schema) as writer:
        writer.write_table(table)
    made.save_to_disk("saved")
    for path in ("stream.arrow", "file.arrow", "saved"):
        assert answers(path) == ["a 0", "a 1", "a 2"]
    datasets.DatasetDict({"train": made, "test": datasets.Dataset.from_list(records(2, 9))}).save_to_disk(
        "parts"
    )
    source = FileSource("parts")
    assert [row.answer for row in source.split("test")] == ["a 9", "a 10"]
    Path("broken.arrow").write_bytes(b"no table")
    with pytest.raises(UserError, match=r"broken\.arrow: cannot be read as arrow"):
        read("broken.arrow")


def test_a_parquet_file_of_the_time_of_another_is_no_other() -> None:
    datasets.Dataset.from_list(records(2)).to_parquet("rows.parquet")
    before = os.stat("rows.parquet")
    assert answers("rows.parquet") == ["a 0", "a 1"]
    datasets.Dataset.from_list(records(3, 2)).to_parquet("rows.parquet")
    os.utime("rows.parquet", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert answers("rows.parquet") == ["a 2", "a 3", "a 4"]


def test_several_files_a_glob_and_a_folder_of_shards_are_one_set() -> None:
    names = [jsonl(f"shards/rows-{number}.jsonl", records(2, 2 * number)) for number in range(3)]
    Path("shards/README.md").write_text("# Rows")
    expected = [f"a {number}" for number in range(6)]
    for path in (
        names,
        "shards/rows-*.jsonl",
        "shards/rows-{0..2}.jsonl",
        "shards/rows-{0,1,2}.jsonl",
        "shards",
    ):
        assert answers(path) == expected
    assert [row.id for row in read("shards")][1:3] == ["rows-0.jsonl:2", "rows-1.jsonl:1"]
    made = [datasets.Dataset.from_list(records(2, 2 * number)) for number in range(3)]
    Path("tables").mkdir()
    for number, table in enumerate(made):
        table.to_parquet(f"tables/part-{number}.parquet")
    assert answers("tables") == expected
    rows = FileSource("tables", held_out=True, split={"test": 1.0}).split("test")
    assert [row.answer for row in pickle.loads(pickle.dumps(rows))] == expected


def test_a_bad_row_of_several_files_is_named_by_its_own_file() -> None:
    jsonl("a.jsonl", records(2))
    jsonl("b.jsonl", [*records(1, 5), {"question": "q"}])
    with pytest.raises(UserError, match=r"b\.jsonl, row 2: .*there is no 'answer'"):
        read(["a.jsonl", "b.jsonl"])


def test_files_of_one_name_in_two_folders_are_told_apart() -> None:
    names = [jsonl(f"{name}/rows.jsonl", records(1, number)) for number, name in enumerate("ab")]
    assert [row.id for row in read(names)] == ["a/rows.jsonl:1", "b/rows.jsonl:1"]


def test_a_folder_with_a_sub_folder_per_class() -> None:
    for name in ("robin", "wren"):
        for number in range(2):
            picture(f"birds/{name}/deep/{number}.PNG", "red" if name == "robin" else "blue")
    picture("birds/stray.png")
    rows = read("birds", prompt="Which bird is this?")
    assert [row.answer for row in rows] == ["robin", "robin", "wren", "wren"]
    assert [row.id for row in rows][:2] == ["robin/deep/0.PNG", "robin/deep/1.PNG"]
    assert rows[2].messages == [say("user", "IMAGE", "Which bird is this?"), say("assistant", "wren")]
    assert open_picture(rows[2].images[0], "here").getpixel((0, 0)) == (0, 0, 255)
    with pytest.raises(UserError, match=r"birds, row 1: .*there is no 'question'.*or write it by prompt"):
        read("birds")


def test_what_programs_leave_in_a_folder_of_classes_is_no_class_and_no_picture() -> None:
    for path in (
        "robin/0.png",
        "robin/.ipynb_checkpoints/0-checkpoint.png",
        ".thumbnails/0.png",
        "robin/._0.png",
    ):
        picture(f"birds/{path}")
    picture("birds/__MACOSX/robin/0.png")
    assert [row.id for row in read("birds", prompt="?")] == ["robin/0.png"]


def test_what_a_file_manager_leaves_beside_files_of_rows_is_none() -> None:
    jsonl("rows/a.jsonl", records(2))
    Path("rows/._a.jsonl").write_bytes(b"\x00\x05\x16\x07")
    assert answers("rows") == ["a 0", "a 1"]


def test_a_link_to_a_folder_is_not_passed_over() -> None:
    picture("birds/robin/0.png")
    picture("elsewhere/0.png")
    Path("birds/wren").symlink_to(Path("elsewhere").absolute())
    with pytest.raises(UserError, match=r"links to folders are not followed, and birds holds birds/wren"):
        read("birds", prompt="?")


@pytest.mark.parametrize("suffix", ["avif", "jp2", "ppm", "pgm", "JPE", "ico"])
def test_a_folder_leaves_out_no_picture_that_can_be_decoded(suffix: str) -> None:
    if f".{suffix.lower()}" not in Image.registered_extensions():
        pytest.skip("this Pillow does not have it")
    picture("birds/robin/a.png")
    Image.new("L", (16, 16), 7).save(f"birds/robin/b.{suffix}")
    rows = read("birds", prompt="?")
    assert [row.id for row in rows] == ["robin/a.png", f"robin/b.{suffix}"]
    assert open_picture(rows[1].images[0], "here").size == (16, 16)


def test_a_folder_with_a_sub_folder_per_part() -> None:
    for part, count in (("train", 30), ("validation", 2), ("test", 3)):
        for number in range(count):
            picture(f"birds/{part}/wren/{number}.png")
    source = FileSource("birds", prompt="Which bird is this?")
    assert [len(source.split(part)) for part in ("train", "dev", "test")] == [30, 2, 3]


@pytest.mark.parametrize(
    "names",
    [
        ("train.jsonl", "val.jsonl", "test.jsonl"),
        ("train-00000-of-00001.jsonl", "validation-00000-of-00001.jsonl", "test-00000-of-00001.jsonl"),
        ("vqa_train.jsonl", "vqa_dev.jsonl", "vqa_Test2017.jsonl"),
    ],
)
def test_a_folder_with_files_named_by_part_is_not_pooled(names: tuple[str, ...]) -> None:
    for place, name in enumerate(names):
        jsonl(f"set/{name}", records(30, 100 * place))
    picture("set/train/a.png")
    source = FileSource("set")
    for place, part in enumerate(PARTS):
        assert [row.answer for row in source.split(part)] == [f"a {n + 100 * place}" for n in range(30)]


def test_a_folder_of_files_of_one_part_is_one_set() -> None:
    for number in range(2):
        jsonl(f"set/train-{number}.jsonl", records(2, 2 * number))
    assert answers("set") == ["a 0", "a 1", "a 2", "a 3"]


@pytest.mark.parametrize("path", ["set", ["set"], {"train": "set", "test": "other.jsonl"}])
def test_a_folder_with_some_files_named_by_part_is_refused(path: Any) -> None:
    for name in ("rows", "test"):
        jsonl(f"set/{name}.jsonl", records(2))
    jsonl("other.jsonl", records(2, 5))
    with pytest.raises(UserError, match=r"got test\.jsonl beside rows\.jsonl in set; write path: \{train"):
        FileSource(path)


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("train", "test", "unlabeled"), "got test, train beside unlabeled in imgs"),
        (("train", "test", "val", "validation"), "got test, train, val, validation in imgs"),
        (("val", "wren"), "got val beside wren in imgs"),
    ],
)
def test_parts_beside_another_folder_are_no_classes(folders: tuple[str, ...], message: str) -> None:
    for folder in folders:
        picture(f"imgs/{folder}/wren/0.png")
    with pytest.raises(UserError, match=message):
        FileSource("imgs", prompt="Which bird is this?")


def test_what_an_archive_leaves_behind_is_no_part() -> None:
    for folder in ("Train", "Test", "__MACOSX", ".cache"):
        for number in range(10):
            picture(f"imgs/{folder}/wren/{number}.png", "red" if folder == "Train" else "blue")
    source = FileSource("imgs", prompt="Which bird is this?")
    assert {row.answer for part in ("train", "test") for row in source.split(part)} == {"wren"}
    assert len(source.split("test")) == 10


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_pictures_with_metadata(kind: str) -> None:
    picture("scans/sub/a.png")
    row = {"file_name": "sub/a.png", "question": "What?", "answer": "A"}
    if kind == "csv":
        Path("scans/metadata.csv").write_text(",".join(row) + "\n" + ",".join(row.values()) + "\n")
    elif kind == "jsonl":
        jsonl("scans/metadata.jsonl", [row])
    else:
        datasets.Dataset.from_list([row]).to_parquet("scans/metadata.parquet")
    (found,) = read("scans")
    assert open_picture(found.images[0], "here").size == (4, 4)
    assert found.meta == {}


def test_sharegpt_with_pictures_between_its_texts() -> None:
    for name in ("a", "b"):
        picture(f"{name}.png", "red" if name == "a" else "blue")
    turns = [
        {"from": "system", "value": "Be brief."},
        {"from": "human", "value": "Compare <image> with <image>."},
        {"from": "gpt", "value": "One is red."},
        {"from": "human", "value": "Which?"},
        {"from": "gpt", "value": "The first."},
    ]
    jsonl("rows.jsonl", [{"conversations": turns, "image": ["a.png", "b.png"]}])
    (row,) = read("rows.jsonl")
    assert row.messages[1] == say("user", "Compare ", "IMAGE", " with ", "IMAGE", ".")
    assert row.answer == "The first."
    assert [open_picture(image, "here").getpixel((0, 0)) for image in row.images] == [
        (255, 0, 0),
        (0, 0, 255),
    ]


def test_conversations_in_a_column_of_another_name_and_as_a_text() -> None:
    turns = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
    jsonl("rows.jsonl", [{"dialog": turns}, {"dialog": json.dumps(turns)}])
    assert answers("rows.jsonl", columns={"messages": "dialog"}) == ["So.", "So."]


def test_columns_lead_into_lists_and_mappings() -> None:
    row = {"q": "Why?", "answers": ["so", "thus"], "info": {"kind": "c", "choices": ["x", "y"]}, "extra": 1}
    jsonl("rows.jsonl", [row])
    names = {"question": "q", "answer": "answers[0]", "gold": "answers", "options": "info.choices"}
    (found,) = read("rows.jsonl", columns={**names, "category": "info.kind"})
    assert (found.answer, found.gold) == ("so", ["so", "thus"])
    assert found.meta == {"options": ["x", "y"], "category": "c", "extra": 1}
    with pytest.raises(UserError, match=r"row 1: an answer must be a text or a number, got .*answers\[0\]"):
        read("rows.jsonl", columns={"question": "q", "answer": "answers"})


def test_a_prompt_is_written_with_columns() -> None:
    jsonl("rows.jsonl", [{"q": "Why?", "options": ["x", "y"], "answer": "A"}])
    (row,) = read("rows.jsonl", prompt="{q}\n{options}\nAnswer with {{the}} letter.")
    assert row.messages[0] == say("user", "Why?\nA. x\nB. y\nAnswer with {the} letter.")
    with pytest.raises(UserError, match=r"row 1: prompt names 'hint', the row has only q, options, answer"):
        read("rows.jsonl", prompt="{hint} {q}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": 3}, "path: must name files, got 3"),
        ({"path": []}, r"path: must name files, got \[\]"),
        ({"path": "none-*.jsonl"}, "nothing matches none-"),
        ({"path": "rows-{3..1}.jsonl"}, "counts from 3 to 1"),
        ({"path": {"tset": "a.jsonl"}}, "mapping of train, dev, test .*did you mean 'test'"),
        ({"path": "mixed"}, "rows of one kind, got a.jsonl and b.csv"),
        ({"path": "empty"}, "the folder empty must hold a sub-folder of pictures per class"),
        ({"path": ["a.jsonl", "b.tar"]}, "tar shards must stand alone"),
        ({"path": "a.jsonl", "columns": {"anwser": "a"}}, "got 'anwser'; did you mean 'answer'"),
        ({"path": "a.jsonl", "columns": {"answer": None}}, "columns: answer must name a column, got None"),
        ({"path": "a.jsonl", "columns": "answer"}, "columns: must be a mapping"),
        ({"path": "a.jsonl", "split": 0.1}, "split: must be shares"),
        ({"path": "a.jsonl", "prompt": "{question"}, "prompt: must be a text with columns in braces"),
        ({"path": "a.jsonl", "prompt": "{}"}, "prompt: braces must hold a column's name"),
        ({"path": "a.jsonl", "prompt": 3}, "prompt: must be a text"),
    ],
)
def test_a_mistake_is_said_with_the_way_out(options: dict[str, Any], message: str) -> None:
    jsonl("a.jsonl", records(20))
    jsonl("mixed/a.jsonl", records(2))
    Path("mixed/b.csv").write_text("question,answer\nq,1\n")
    Path("empty").mkdir()
    Path("b.tar").write_bytes(bytes(1024))
    with pytest.raises(UserError, match=message):
        FileSource(**options)


def test_a_prompt_and_a_conversation_exclude_each_other() -> None:
    turns = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
    jsonl("rows.jsonl", [{"messages": turns}])
    with pytest.raises(UserError, match="row 1: a conversation brings its questions"):
        read("rows.jsonl", prompt="Why?")


def test_a_name_that_exists_is_not_a_pattern() -> None:
    jsonl("rows[1]{a,b}.jsonl", records(2))
    assert part_files("rows[1]{a,b}.jsonl") == {"all": [Path("rows[1]{a,b}.jsonl")]}
    assert answers("rows[1]{a,b}.jsonl") == ["a 0", "a 1"]
