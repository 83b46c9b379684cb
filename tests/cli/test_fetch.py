"""``lmmcl fetch``: the pictures of a task whose data name them by address."""

import hashlib
import json
from pathlib import Path

import datasets
import pytest

from lmmcl.cli.entry import main
from tests.tasks.fixtures import COPIES, picture, write_fixtures

DATASET = "allenai/pixmo-count"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of PixMo-Count, three rows a split, whose addresses are this machine's: they are never asked."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "hub"
    write_fixtures(root, 3)
    for copy in COPIES[DATASET]:
        file = root / DATASET / copy.file
        table = datasets.Dataset.from_parquet(str(file), cache_dir=str(tmp_path / "read"))
        rows = [{**row, "image_url": f"http://127.0.0.1:9/{copy.split}.jpg"} for row in table]
        datasets.Dataset.from_list(rows, features=copy.features).to_parquet(str(file))
    return root


def test_what_is_there_is_counted(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "pixmo_count", "--root", str(root)]) == 0
    folder = root / "pictures" / DATASET
    said = capsys.readouterr().out
    assert said == (
        f"pixmo_count: 6 pictures, 0 fetched, 6 were there, 0 cannot be had. They lie in {folder}.\n"
    )


def test_what_cannot_be_had_is_listed_and_the_way_on_is_said(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sha256 = hashlib.sha256(picture(DATASET, None, "train", 1)).hexdigest()
    folder = root / "pictures" / DATASET
    (folder / sha256[:2] / sha256).unlink()
    assert main(["fetch", "pixmo_count", "--root", str(root), "--threads", "2"]) == 0
    said = capsys.readouterr().out
    assert "6 pictures, 0 fetched, 5 were there, 1 cannot be had" in said
    assert "data.on_bad_row: drop" in said
    (failure,) = [json.loads(line) for line in (folder / "failures.jsonl").read_text().splitlines()]
    assert failure["url"] == "http://127.0.0.1:9/train.jpg"
    assert failure["sha256"] == sha256
    assert "private network" in failure["reason"]


@pytest.mark.parametrize("task", ["ai2d", "nonsense"])
def test_a_task_without_pictures_to_fetch_is_an_error(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", task]) == 2
    assert f"fetch: {task} names no task whose pictures are fetched, these are pixmo_count" in (
        capsys.readouterr().err
    )


def test_a_copy_that_is_not_there_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "pixmo_count", "--root", str(tmp_path)]) == 2
    assert "data.root: allenai/pixmo-count" in capsys.readouterr().err


def test_manners_out_of_range_are_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "pixmo_count", "--per_host", "0"]) == 2
    assert "per_host must be at least 1" in capsys.readouterr().err
