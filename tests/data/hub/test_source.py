"""Hub datasets, read from local copies with the hub's layouts."""

import json
import pickle
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from lmmcl.data.bad_row import RowError
from lmmcl.data.drop_bad_rows import DropBadRows
from lmmcl.data.files.records import Record
from lmmcl.data.files.table import TableRows
from lmmcl.data.hub.form import hub_source
from lmmcl.data.hub.source import HubSource, HubTable
from lmmcl.data.pictures.picture import open_picture
from lmmcl.data.row import Row
from lmmcl.data.task import Part
from lmmcl.errors import UserError
from tests.data.processors import say


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def encoded(colour: str) -> dict[str, Any]:
    stream = BytesIO()
    Image.new("RGB", (4, 4), colour).save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": f"{colour}.png"}


def table(count: int, first: int = 0) -> Any:
    numbers = range(first, first + count)
    made = datasets.Dataset.from_dict(
        {
            "image": [encoded("red" if number % 2 else "blue") for number in numbers],
            "question": [f"q {number}" for number in numbers],
            "answers": [[str(number), "x"] for number in numbers],
            "picture_id": [number // 2 for number in numbers],
            "kind": [number % 2 for number in numbers],
        }
    )
    made = made.cast_column("kind", datasets.ClassLabel(names=["even", "odd"]))
    return made.cast_column("image", datasets.Image())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two datasets: ``owner/plain`` (train and test), ``owner/configs`` (first and second, each with a test)."""
    plain = tmp_path / "root" / "owner" / "plain" / "data"
    plain.mkdir(parents=True)
    table(60).to_parquet(plain / "train-00000-of-00002.parquet")
    table(40, 60).to_parquet(plain / "train-00001-of-00002.parquet")
    table(20, 100).to_parquet(plain / "test-00000-of-00001.parquet")
    configs = tmp_path / "root" / "owner" / "configs"
    lines = ["---", "configs:"]
    for position, name in enumerate(("first", "second")):
        (configs / name).mkdir(parents=True)
        table(5, 10 * position).to_parquet(configs / name / "test.parquet")
        lines += [f"- config_name: {name}", "  data_files:", "  - split: test", f"    path: {name}/test*"]
    (configs / "README.md").write_text("\n".join([*lines, "---", "# Two configurations"]))
    return tmp_path / "root"


def make(record: Record, number: int, part: Part) -> Row:
    messages = [say("user", "IMAGE", record["question"]), say("assistant", record["answers"][0])]
    return Row(f"{part}-{number}", messages, (record["image"],), record["answers"])


def source(root: Path, parts: Sequence[Part] = ("train", "test"), **options: Any) -> HubSource:
    return HubSource({part: HubTable("owner/plain", part) for part in parts}, make, root=root, **options)


def test_a_split_of_several_files_is_one_table(root: Path) -> None:
    rows = HubTable("owner/plain", "train").load(root)
    assert len(rows) == 100
    assert rows[77]["question"] == rows[-23]["question"] == "q 77"
    assert [record["question"] for record in rows] == [f"q {number}" for number in range(100)]
    assert [record["question"] for record in rows[98:]] == ["q 98", "q 99"]
    assert rows.column_names == ("image", "question", "answers", "picture_id", "kind")
    assert rows.columns(["picture_id"])["picture_id"][-2:] == [49, 49]
    assert (rows[77]["kind"], rows.columns(["kind"])["kind"][:2]) == ("odd", ["even", "odd"])
    with pytest.raises(IndexError):
        rows[100]


def test_pictures_are_opened_when_they_are_wanted(root: Path) -> None:
    record = HubTable("owner/plain", "test").load(root)[1]
    assert open_picture(record["image"], "here").getpixel((0, 0)) == (255, 0, 0)


def test_a_configuration_is_taken_by_its_name(root: Path) -> None:
    assert HubTable("owner/configs", "test", "second").load(root)[0]["question"] == "q 10"


def test_train_test_and_a_dev_cut_from_train_share_no_row(root: Path) -> None:
    parts = {part: [row.answer for row in source(root).split(part)] for part in ("train", "dev", "test")}
    assert parts["test"] == [str(number) for number in range(100, 120)]
    assert sorted(map(int, parts["train"] + parts["dev"])) == list(range(100))
    assert 3 <= len(parts["dev"]) <= 20


def test_dev_is_cut_from_test_where_there_is_no_train(root: Path) -> None:
    rows = source(root, ["test"], dev_share=0.5)
    assert len(rows.split("dev")) + len(rows.split("test")) == 20
    with pytest.raises(UserError, match=r"there is no train, only test \(owner/plain, split test\)"):
        rows.split("train")


def test_rows_of_one_group_stay_on_one_side_of_the_cut(root: Path) -> None:
    dev = {int(row.answer) for row in source(root, group="picture_id", dev_share=0.3).split("dev")}
    assert dev == {other for number in dev for other in (number - number % 2, number - number % 2 + 1)}
    with pytest.raises(UserError, match="no column 'image' to group rows by, only question, answers"):
        source(root, group="image").split("dev")


def test_what_is_kept_is_decided_without_pictures(root: Path) -> None:
    rows = source(root, ["test"], keep=lambda record: "image" not in record and record["kind"] == "odd")
    assert {int(row.answer) % 2 for row in rows.split("test")} == {1}
    with pytest.raises(UserError, match="no row is left for test of 20"):
        source(root, keep=lambda record: False).split("test")


def test_rows_can_be_sent_to_a_worker_without_their_pictures(root: Path) -> None:
    rows = source(root).split("train")
    sent = pickle.dumps(rows)
    assert len(sent) < 20_000
    assert open_picture(pickle.loads(sent)[0].images[0], "here").size == (4, 4)


def test_the_fingerprint_follows_the_data_and_not_the_place(root: Path, tmp_path: Path) -> None:
    first = source(root).fingerprint()
    moved = root.rename(tmp_path / "moved")
    assert source(root).at(moved).fingerprint() == first
    assert source(moved, dev_share=0.2).fingerprint() != first
    assert source(moved, keep=lambda record: record["kind"] == "odd").fingerprint() != first
    table(20, 101).to_parquet(moved / "owner" / "plain" / "data" / "test-00000-of-00001.parquet")
    assert source(moved).fingerprint() != first


def test_nothing_is_loaded_before_it_is_asked_for(tmp_path: Path) -> None:
    missing = source(tmp_path / "nowhere")
    with pytest.raises(
        UserError, match=r"data\.root: owner/plain must lie in .*nowhere/owner/plain.*hf download"
    ):
        missing.split("train")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (HubTable("owner/plain", "validation"), "owner/plain has no split 'validation', it has train, test"),
        (HubTable("owner/configs", "test"), "must have one of first, second, got none"),
        (HubTable("owner/configs", "test", "third"), "must have one of first, second, got 'third'"),
        (HubTable("owner/plain", "test", "x"), "must have one of default, got 'x'"),
    ],
)
def test_a_mistake_names_what_there_is(root: Path, table: HubTable, message: str) -> None:
    with pytest.raises(UserError, match=message):
        table.load(root)


def test_a_broken_copy_is_said_in_one_message(root: Path) -> None:
    (root / "owner" / "plain" / "data" / "test-00000-of-00001.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(UserError, match=r"data\.root: the copy of owner/plain cannot be read"):
        HubTable("owner/plain", "test").load(root)


def test_a_folder_of_pictures_is_a_dataset_too(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name in ("robin", "wren"):
            folder = tmp_path / "root" / "owner" / "birds" / part / name
            folder.mkdir(parents=True)
            Image.new("RGB", (4, 4), "red").save(folder / "0.png")
    rows = HubTable("owner/birds", "test").load(tmp_path / "root")
    assert [record["label"] for record in rows] == ["robin", "wren"]
    assert open_picture(rows[1]["image"], "here").size == (4, 4)
    first = rows.fingerprint
    assert HubTable("owner/birds", "train").load(tmp_path / "root").fingerprint == first
    Image.new("RGB", (40, 40), "blue").save(tmp_path / "root" / "owner" / "birds" / "test" / "wren" / "0.png")
    assert HubTable("owner/birds", "test").load(tmp_path / "root").fingerprint != first


def test_a_hub_that_cannot_be_reached_leads_to_local_copies() -> None:
    with pytest.raises(UserError, match=r"hub: owner/plain cannot be loaded \(.*HF_HUB_OFFLINE.*data\.root"):
        HubTable("owner/plain", "test").load()


@pytest.mark.parametrize("parts", [[], ["dev"], ["valid"]])
def test_a_source_needs_rows_to_train_or_to_measure(parts: list[Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"splits: must name a split for train or test"):
        source(tmp_path, parts)


def test_lists_of_pictures_paths_and_bare_bytes_are_pictures(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), "lime").save(tmp_path / "file.png")
    on_disk = {"bytes": None, "path": str(tmp_path / "file.png")}
    made = datasets.Dataset.from_dict(
        {
            "images": [[encoded("red"), on_disk], [], None],
            "raw": [encoded("blue")["bytes"], None, None],
            "named": [on_disk, {"bytes": None, "path": "a/b.png"}, None],
        }
    ).cast_column("images", datasets.List(datasets.Image()))
    rows = TableRows(made, "rows.parquet", first=1)
    assert rows.plain_names == ()
    colours = [open_picture(image, "here").getpixel((0, 0)) for image in rows[0]["images"]]
    assert colours == [(255, 0, 0), (0, 255, 0)]
    assert open_picture(rows[0]["raw"], "here").getpixel((0, 0)) == (0, 0, 255)
    assert open_picture(rows[0]["named"], "here").getpixel((0, 0)) == (0, 255, 0)
    assert rows[1] == {"images": [], "raw": None, "named": "a/b.png"}
    assert rows[2] == {"images": None, "raw": None, "named": None}
    assert len(rows.fingerprint) == 64


def broken_copy(tmp_path: Path) -> Path:
    """A copy whose second test row has no answers."""
    (tmp_path / "broken" / "owner" / "plain").mkdir(parents=True)
    rows = [{"image": None, "question": f"q {i}", "answers": None if i == 1 else ["a"]} for i in range(4)]
    path = tmp_path / "broken" / "owner" / "plain" / "test.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return tmp_path / "broken"


def test_a_record_that_makes_no_row_is_named_and_can_be_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "checked"))
    parts: dict[Part, HubTable] = {"test": HubTable("owner/plain", "test")}

    def plain(record: Record, number: int, part: Part) -> Row:
        return replace(make(record, number, part), images=())

    whole = HubSource(parts, plain, root=broken_copy(tmp_path)).undivided()
    with pytest.raises(
        RowError, match=r"^owner/plain, split test, row 1: .*got TypeError: .*image, question"
    ):
        whole.split("test")[1]
    dropping = DropBadRows(whole, "mine")
    assert [row.id for row in dropping.split("test")] == ["test-0", "test-2", "test-3"]
    assert [(row.file, row.row) for row in dropping.bad_rows] == [("owner/plain, split test", 1)]


@pytest.mark.parametrize(
    ("error", "reason"),
    [(KeyError("label"), "KeyError: 'label'"), (UserError("no such label"), "no such label")],
)
def test_what_goes_wrong_in_a_row_has_its_place(root: Path, error: Exception, reason: str) -> None:
    def broken(record: Record, number: int, part: Part) -> Row:
        raise error

    rows = HubSource({"train": HubTable("owner/plain", "train")}, broken, root=root).split("train")
    with pytest.raises(RowError, match=rf"^owner/plain, split train, row \d+: .*{reason}"):
        rows[0]


def test_what_is_kept_by_a_column_that_is_missing_is_said(root: Path) -> None:
    with pytest.raises(RowError, match=r"^owner/plain, split test, row 0: .*KeyError: 'type'"):
        source(root, ["test"], keep=lambda record: bool(record["type"])).split("test")


def test_a_column_that_is_named_must_be_there(root: Path) -> None:
    columns = {"answer": "answers[0]", "image": "imge"}
    splits = {"train": "train", "test": "test"}
    named = hub_source("owner/plain", False, splits, columns=columns).at(root)
    with pytest.raises(
        UserError, match=r"columns: image must name a column of owner/plain, split train, got 'imge'.*'image'"
    ):
        named.split("train")
    right = hub_source("owner/plain", False, splits, columns={**columns, "image": "image"}).at(root)
    assert len(right.split("test")[0].images) == 1


def test_rows_of_one_id_are_not_taken_for_each_other(root: Path) -> None:
    columns, splits = {"answer": "answers[0]", "image": "image"}, {"test": "test"}
    source = hub_source("owner/plain", True, splits, columns={**columns, "id": "answers[1]"}).at(root)
    with pytest.raises(UserError, match=r"columns: id must name every row of owner/plain, split test once"):
        source.split("test")
    rows = hub_source("owner/plain", True, splits, columns={**columns, "id": None}).at(root).split("test")
    assert len({row.id for row in rows}) == len(rows)
