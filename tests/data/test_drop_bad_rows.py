"""Bad rows are dropped before training, the same ones everywhere and always."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import PIL
import pyarrow.parquet as pq
import pytest
from PIL import Image

import lmmcl.data.pictures.picture_check
from lmmcl.data.bad_row import BAD_ROWS_FILE, BadRow, RowError, write_bad_rows
from lmmcl.data.datamodule import TaskSequenceDataModule
from lmmcl.data.pictures.picture import open_picture
from lmmcl.errors import UserError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path / "data")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the check decoded."""
    seen: list[Any] = []

    def spy(picture: Any, where: str) -> Image.Image:
        seen.append(picture)
        return open_picture(picture, where)

    monkeypatch.setattr(lmmcl.data.pictures.picture_check, "open_picture", spy)
    return seen


def write(bad: dict[int, Any], count: int = 40) -> None:
    lines = []
    for number in range(1, count + 1):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(f"{number}.png")
        row = {"id": f"r{number}", "question": "q", "answer": "A", "image": f"{number}.png"}
        change = bad.get(number, {})
        lines.append(change if isinstance(change, str) else json.dumps({**row, **change}))
    Path("rows.jsonl").write_text("\n".join(lines))


FAULTS: dict[int, Any] = {
    3: "{",
    5: {"answer": " "},
    7: {"image": "missing.png"},
    9: {"question": "<image> <image>"},
    11: {"id": "r1"},
}
SPEC: dict[str, Any] = {"task": "mine", "path": "rows.jsonl"}


def test_every_kind_of_bad_row_is_dropped_counted_and_listed(tmp_path: Path) -> None:
    write(FAULTS)
    for name in ("13", "15"):
        Path(f"{name}.png").write_bytes(Path(f"{name}.png").read_bytes()[:50])
    data = TaskSequenceDataModule([SPEC], on_bad_row="drop")
    source = data.tasks[0].source
    kept = {row.id for part in ("train", "dev", "test") for row in source.split(part)}
    assert kept == {f"r{number}" for number in range(1, 41)} - {f"r{number}" for number in (*FAULTS, 13, 15)}
    found = {bad.row: bad for bad in data.bad_rows}
    assert sorted(found) == [3, 5, 7, 9, 11, 13, 15]
    assert {bad.file for bad in found.values()} == {"rows.jsonl"}
    write_bad_rows(tmp_path, data.bad_rows)
    lines = [json.loads(line) for line in (tmp_path / BAD_ROWS_FILE).read_text().splitlines()]
    assert {line["row"]: line["reason"][:20] for line in lines} == {
        row: bad.reason[:20] for row, bad in found.items()
    }
    assert "cannot be read" in found[13].reason and "no picture missing.png" in found[7].reason


@pytest.mark.parametrize("number", FAULTS)
def test_without_drop_the_first_bad_row_is_an_error(number: int) -> None:
    write({number: FAULTS[number]})
    with pytest.raises(UserError, match=rf"data\.tasks: mine: rows\.jsonl, row {number}: "):
        TaskSequenceDataModule([SPEC])
    assert len(TaskSequenceDataModule([SPEC], on_bad_row="drop").bad_rows) == 1


def test_good_rows_leave_no_list(tmp_path: Path) -> None:
    write({})
    data = TaskSequenceDataModule([SPEC], on_bad_row="drop")
    write_bad_rows(tmp_path, data.bad_rows)
    assert not (tmp_path / BAD_ROWS_FILE).exists()
    assert TaskSequenceDataModule([SPEC]).bad_rows == []


def test_pictures_are_decoded_once_and_again_when_they_change(decoded: list[Any]) -> None:
    write({})
    Path("4.png").write_bytes(b"no picture")
    first = TaskSequenceDataModule([SPEC], on_bad_row="drop").bad_rows
    count = len(decoded)
    assert TaskSequenceDataModule([SPEC], on_bad_row="drop").bad_rows == first
    assert len(decoded) == count
    Image.new("RGB", (5, 5)).save("4.png")
    assert TaskSequenceDataModule([SPEC], on_bad_row="drop").bad_rows == []
    assert len(decoded) == count + 1


def test_another_pillow_looks_again(decoded: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    write({})
    for seen, version in ((1, "12.9"), (1, "12.9"), (2, "13.0")):
        monkeypatch.setattr(PIL, "__version__", version)
        TaskSequenceDataModule([SPEC], on_bad_row="drop").bad_rows  # noqa: B018  # it looks
        assert len(decoded) == seen * len(set(map(str, decoded)))


def test_the_fingerprint_follows_a_repair_that_leaves_the_size() -> None:
    write({})
    good = TaskSequenceDataModule([SPEC], on_bad_row="drop").fingerprint()
    whole = Path("4.png").read_bytes()
    Path("4.png").write_bytes(bytes(len(whole)))
    broken = TaskSequenceDataModule([SPEC], on_bad_row="drop").fingerprint()
    Path("4.png").write_bytes(whole)
    assert TaskSequenceDataModule([SPEC], on_bad_row="drop").fingerprint() == good
    assert {**good, "dropped": {"mine train": [1]}} == broken


def test_an_interrupted_check_goes_on(tmp_path: Path, decoded: list[Any]) -> None:
    write({})
    TaskSequenceDataModule([SPEC], on_bad_row="drop").bad_rows  # noqa: B018  # it looks
    count = len(decoded)
    (kept,) = (tmp_path / "cache" / "lmmcl" / "pictures").iterdir()
    lines = kept.read_text().split("\n")
    kept.write_text("\n".join(lines[:10]) + "\n" + lines[10][:30])
    assert TaskSequenceDataModule([SPEC], on_bad_row="drop").bad_rows == []
    assert len(decoded) > count
    again = len(decoded)
    TaskSequenceDataModule([SPEC], on_bad_row="drop").bad_rows  # noqa: B018  # it looks
    assert len(decoded) == again


def test_two_processes_drop_the_same_rows_and_decode_each_picture_once(tmp_path: Path) -> None:
    write({})
    Path("4.png").write_bytes(b"no picture")
    code = (
        "from lmmcl.data.drop_bad_rows import DropBadRows\n"
        "from lmmcl.data.sources import FileSource\n"
        "source = DropBadRows(FileSource('rows.jsonl', on_bad_row='drop'), 'mine')\n"
        "print([row.id for part in ('train', 'dev', 'test') for row in source.split(part)], source.bad_rows)\n"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    first, second = (process.communicate()[0] for process in both)
    assert first == second
    assert "'r3'" in first and "'r4'" not in first and "row=4" in first
    (kept,) = (tmp_path / "cache" / "lmmcl" / "pictures").iterdir()
    assert sum("\t" in line for line in kept.read_text().splitlines()) == 40


def test_without_a_cache_folder_the_same_rows_are_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write({})
    Path("4.png").write_bytes(b"no picture")
    first = TaskSequenceDataModule([SPEC], on_bad_row="drop").bad_rows
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert TaskSequenceDataModule([SPEC], on_bad_row="drop").bad_rows == first


def test_a_broken_picture_in_hub_data_is_dropped_too() -> None:
    os.makedirs("root/owner/name")
    good = Path("good.png")
    Image.new("RGB", (4, 4)).save(good)
    pictures = [{"bytes": good.read_bytes() if i % 5 else b"no picture", "path": None} for i in range(20)]
    table = datasets.Dataset.from_dict(
        {"image": pictures, "question": ["q"] * 20, "answer": [str(i) for i in range(20)]}
    ).cast_column("image", datasets.Image())
    table.to_parquet("root/owner/name/test.parquet")
    spec: dict[str, Any] = {
        "task": "mine",
        "hub": "owner/name",
        "splits": {"test": "test"},
        "split": {"dev": 0.5},
    }
    data = TaskSequenceDataModule(["count"], [spec], root="root", on_bad_row="drop")
    source = data.held_out[0].source
    parts: tuple[Any, ...] = ("dev", "test")
    assert {int(row.answer) % 5 for part in parts for row in source.split(part)} == {1, 2, 3, 4}
    assert {bad.row % 5 for bad in data.bad_rows} == {0}
    assert {bad.file for bad in data.bad_rows} == {"owner/name, split test"}


def test_a_picture_that_a_table_names_by_a_path_without_a_file_is_dropped() -> None:
    write({})
    os.makedirs("root/owner/name/3")
    for file in Path().glob("*.png"):
        file.rename(Path("root/owner/name") / file)
    folder = Path("root/owner/name").absolute()
    paths = [str(folder / f"{number}.png") for number in range(1, 21)]
    paths[3:6] = [str(folder / name) for name in ("nowhere.png", "1.png/inside.png", "3")]
    table = datasets.Dataset.from_dict({"image": paths, "question": ["q"] * 20, "answer": ["A"] * 20})
    # Written as it is: Dataset.to_parquet reads the files.
    pq.write_table(table.cast_column("image", datasets.Image()).data.table, "root/owner/name/test.parquet")
    spec: dict[str, Any] = {
        "task": "mine",
        "hub": "owner/name",
        "splits": {"test": "test"},
        "split": {"dev": 0.5},
    }
    data = TaskSequenceDataModule(["count"], [spec], root="root", on_bad_row="drop")
    parts: tuple[Any, ...] = ("dev", "test")
    assert sum(len(data.held_out[0].source.split(part)) for part in parts) == 17
    assert sorted(bad.row for bad in data.bad_rows) == [3, 4, 5]


def test_a_failing_disk_is_an_error_and_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    write({})

    def fail(picture: Any, where: str) -> Image.Image:
        raise RowError(where, "cannot be read") from OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(lmmcl.data.pictures.picture_check, "open_picture", fail)
        with pytest.raises(UserError, match=r"rows\.jsonl, row \d+: cannot be read"):
            TaskSequenceDataModule([SPEC], on_bad_row="drop").bad_rows  # noqa: B018  # it looks
    assert TaskSequenceDataModule([SPEC], on_bad_row="drop").bad_rows == []


def test_a_part_that_loses_all_its_rows_is_an_error() -> None:
    write({})
    for number in range(1, 41):
        Path(f"{number}.png").write_bytes(b"no picture")
    data = TaskSequenceDataModule([SPEC], on_bad_row="drop")
    with pytest.raises(
        UserError, match=r"drop left no row of mine for train; the first is rows\.jsonl, row \d+: "
    ):
        data.train_rows(0)
    Path("rows.jsonl").write_text("{\n[]\n")
    with pytest.raises(
        UserError, match=r"must hold rows \(2 were dropped, the first: rows\.jsonl, row 1: not JSON"
    ):
        TaskSequenceDataModule([SPEC], on_bad_row="drop")


def test_a_dropped_row_is_written_as_plain_json(tmp_path: Path) -> None:
    write_bad_rows(tmp_path, [BadRow("ä.jsonl", 3, "broken")])
    assert (tmp_path / BAD_ROWS_FILE).read_text(encoding="utf-8") == (
        '{"file": "ä.jsonl", "row": 3, "reason": "broken"}\n'
    )
