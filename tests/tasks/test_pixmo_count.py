"""PixMo-Count: counts of fetched pictures, and the study's test rows."""

import hashlib
from pathlib import Path

import pytest

from lmmcl.data.bad_row import RowError
from lmmcl.data.pictures.picture_store import picture_path
from lmmcl.tasks.pictures import Fetchable, pictures_folder
from lmmcl.tasks.pixmo_count import CountSource
from tests.tasks.conftest import ROWS
from tests.tasks.fixtures import picture, write_fixtures
from tests.tasks.rows import rows, text


def test_training_asks_for_a_number_and_teaches_it(root: Path) -> None:
    row = rows("pixmo_count", "train", root)[4]
    assert text(row) == "How many people are in this image?"
    assert (row.answer, row.gold) == ("4", 4)


def test_evaluation_asks_for_an_integer(root: Path) -> None:
    row = rows("pixmo_count", "test", root)[1]
    assert text(row) == "How many boats are in this image?\nAnswer with integer and nothing else."
    assert (row.answer, row.gold) == ("3", 3)


def test_dev_is_the_data_s_validation_split_asked_as_test_is(root: Path) -> None:
    dev = rows("pixmo_count", "dev", root)
    assert len(dev) == ROWS
    assert text(dev[1]) == "How many people are in this image?\nAnswer with integer and nothing else."


def test_pictures_are_those_with_the_data_s_hash(root: Path) -> None:
    source = CountSource(root)
    assert source.folder == root / "pictures" / "allenai" / "pixmo-count"
    data = picture("allenai/pixmo-count", None, "train", 3)
    path = picture_path(source.folder, hashlib.sha256(data).hexdigest())
    assert path.read_bytes() == data
    (shown,) = source.split("train")[3].images
    assert getattr(shown, "path", None) == path


def test_a_picture_that_was_not_fetched_is_an_error_with_the_command(tmp_path: Path, root: Path) -> None:
    write_fixtures(tmp_path, 2)
    for path in pictures_folder("allenai/pixmo-count", tmp_path).glob("*/*"):
        path.unlink()
    train = CountSource(tmp_path).split("train")
    with pytest.raises(RowError, match=r"allenai/pixmo-count, split train, row 1: .*not on disk") as caught:
        train[1]
    assert f"`lmmcl fetch pixmo_count --root {tmp_path}`" in str(caught.value)
    assert "data.on_bad_row: drop" in str(caught.value)


def test_without_a_root_the_pictures_lie_in_the_hub_s_cache() -> None:
    assert CountSource().folder.parts[-4:] == ("lmmcl", "pictures", "allenai", "pixmo-count")
    assert CountSource().at("somewhere").at(None).folder == CountSource().folder


def test_what_is_wanted_are_the_pictures_of_train_and_validation(root: Path) -> None:
    source: Fetchable = CountSource(root)
    made = [
        picture("allenai/pixmo-count", None, split, row)
        for split in ("train", "validation")
        for row in range(ROWS)
    ]
    wanted = source.wanted()
    assert [one.sha256 for one in wanted] == [hashlib.sha256(data).hexdigest() for data in made]
    assert wanted[3].url == "https://pictures.example/3/photo.jpg"


def test_a_picture_that_comes_later_changes_the_fingerprint(tmp_path: Path, root: Path) -> None:
    write_fixtures(tmp_path, 2)
    whole = CountSource(tmp_path).fingerprint()
    sha256 = hashlib.sha256(picture("allenai/pixmo-count", None, "train", 1)).hexdigest()
    path = picture_path(pictures_folder("allenai/pixmo-count", tmp_path), sha256)
    data = path.read_bytes()
    path.unlink()
    assert CountSource(tmp_path).fingerprint() != whole
    path.write_bytes(data)
    assert CountSource(tmp_path).fingerprint() == whole
