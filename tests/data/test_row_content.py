"""The checksum of a prompt follows all that it is made of, and reads a file once."""

import os
import shutil
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from lmmcl.data.bad_row import RowError
from lmmcl.data.files.table_records import read_table
from lmmcl.data.pictures.picture import PictureFile
from lmmcl.data.pictures.picture_roots import PictureRoots
from lmmcl.data.row import Row
from lmmcl.data.row_content import RowContents


def question(text: str) -> list[dict[str, Any]]:
    user = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}
    return [user, {"role": "assistant", "content": [{"type": "text", "text": "yes"}]}]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_it_follows_the_question_and_the_picture_and_not_the_answer(file: Path) -> None:
    row = Row("a", question("where?"), [file])
    same = RowContents().prompt(row)
    assert RowContents().prompt(replace(row, id="b", images=[PictureFile(file, "rows")])) == same
    other = [row.messages[0], {"role": "assistant", "content": [{"type": "text", "text": "no"}]}]
    assert RowContents().prompt(replace(row, messages=other)) == same
    assert RowContents().prompt(replace(row, messages=question("what?"))) != same
    assert RowContents().prompt(replace(row, images=[file, file])) != same
    Image.new("RGB", (8, 8), "blue").save(file)
    assert RowContents().prompt(row) != same


def test_a_question_without_an_answer_counts(file: Path) -> None:
    asked = [Row("a", question(text)[:1], [file]) for text in ("where?", "what?")]
    assert len({RowContents().prompt(row) for row in asked}) == 2


def test_a_picture_that_lies_nowhere_is_known_by_its_pixels() -> None:
    red, wide = Image.new("RGB", (8, 4), "red"), Image.new("RGB", (4, 8), "red")
    row = Row("a", question("where?"), [red])
    same = RowContents().prompt(row)
    assert RowContents().prompt(replace(row, images=[lambda: red])) == same
    assert RowContents().prompt(replace(row, images=[wide])) != same


def test_a_file_that_stays_is_read_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents, row = RowContents(), Row("a", question("where?"), [file])
    same = contents.prompt(row)
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail("read again"))
    assert contents.prompt(row) == same


def test_other_pixels_of_one_size_at_the_same_time_are_seen(file: Path) -> None:
    bitmap = file.with_suffix(".bmp")
    Image.new("RGB", (8, 8), "red").save(bitmap)
    before, contents, row = os.stat(bitmap), RowContents(), Row("a", question("where?"), [bitmap])
    red = contents.prompt(row)
    Image.new("RGB", (8, 8), "blue").save(bitmap)
    os.utime(bitmap, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert os.stat(bitmap).st_size == before.st_size
    assert contents.prompt(row) != red


def test_pictures_of_two_tables_that_datasets_calls_by_one_name_are_two(tmp_path: Path) -> None:
    for colour in ("red", "blue"):
        stream = BytesIO()
        Image.new("RGB", (8, 8), colour).save(stream, "BMP")
        made = datasets.Dataset.from_list([{"image": {"bytes": stream.getvalue(), "path": None}}])
        made.save_to_disk(tmp_path / colour)
    shutil.copytree(tmp_path / "red", tmp_path / "copy")
    (old,), (new,) = (list((tmp_path / name).glob("*.arrow")) for name in ("copy", "blue"))
    shutil.copy(new, old)
    names = {str(datasets.load_from_disk(tmp_path / name)._fingerprint) for name in ("red", "copy")}
    assert len(names) == 1
    contents, found = RowContents(), []
    for name in ("red", "copy", "blue"):
        picture = read_table(tmp_path / name, PictureRoots.nowhere(), "")[0]["image"]
        found.append(contents.prompt(Row("a", question("where?"), [picture])))
    assert found[0] != found[1] == found[2]


def test_a_picture_outside_of_its_roots_is_not_read(file: Path, tmp_path: Path) -> None:
    roots = (os.path.realpath(tmp_path / "elsewhere"),)
    with pytest.raises(RowError, match="must lie in"):
        RowContents().prompt(Row("a", question("where?"), [PictureFile(file, "rows", roots)]))
