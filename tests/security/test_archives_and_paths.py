"""Rows, archives and cards of data sets read and write nothing outside of their folder."""

import hashlib
import io
import json
import os
import struct
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lmmcl.data.datamodule import TaskSequenceDataModule
from lmmcl.data.files.tar_records import TarRecords
from lmmcl.data.hub.card import check_card
from lmmcl.data.hub.form import hub_source
from lmmcl.data.hub.source import HubTable
from lmmcl.data.pictures.picture import PictureFile, open_picture
from lmmcl.data.pictures.picture_roots import PictureRoots
from lmmcl.data.pictures.picture_store import picture_path
from lmmcl.data.questions import read_questions
from lmmcl.data.row import Row
from lmmcl.data.sources import FileSource
from lmmcl.errors import UserError
from lmmcl.evaluation.flipped_examples import picture_name


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``set/`` with a picture of its own, and a private picture beside it."""
    monkeypatch.chdir(tmp_path)
    Path("set").mkdir()
    Image.new("RGB", (4, 4), "green").save("set/own.png")
    Image.new("RGB", (4, 4), "red").save("private.png")
    Path("set/link.png").symlink_to("../private.png")
    Path("set/folder").symlink_to("..")
    Path("set/inside.png").symlink_to("own.png")
    return tmp_path


def rows(image: str, file: str = "set/rows.jsonl") -> str:
    lines = ({"id": i, "image": image, "question": f"q{i}", "answer": "a"} for i in range(20))
    Path(file).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def first(source: FileSource) -> Row:
    return source.split("train")[0]


def colour(row: Row) -> Any:
    return open_picture(row.images[0], "here").getpixel((0, 0))


OUTSIDE = {
    "absolute": lambda: str(Path("private.png").absolute()),
    "up": lambda: "../private.png",
    "down and up": lambda: "folder/../private.png",
    "link": lambda: "link.png",
    "through a link": lambda: "folder/private.png",
    "file": lambda: f"file://{Path('private.png').absolute()}",
    "nothing there": lambda: "../nothing.png",
    "a device": lambda: "/dev/zero",
}


@pytest.mark.parametrize("path", OUTSIDE.values(), ids=OUTSIDE)
def test_a_row_reads_no_picture_outside_of_its_folder(path: Callable[[], str]) -> None:
    with pytest.raises(
        UserError, match=r"rows\.jsonl, row 1: a picture must lie in .*/set, got .*image_roots"
    ):
        FileSource(rows(path()))


@pytest.mark.parametrize("path", ["own.png", "inside.png", "./own.png", "folder/set/own.png"])
def test_a_path_that_stays_inside_is_read(path: str) -> None:
    assert colour(first(FileSource(rows(path)))) == (0, 128, 0)
    assert colour(first(FileSource(rows(str(Path("set/own.png").absolute()))))) == (0, 128, 0)


def test_pictures_elsewhere_are_read_where_the_yaml_names_their_folder(here: Path) -> None:
    file = rows(str(here / "private.png"))
    for allowed in (
        {"image_folder": here},
        {"image_folder": "/"},
        {"image_roots": [here]},
        {"image_roots": ["/"]},
    ):
        assert colour(first(FileSource(file, **allowed))) == (255, 0, 0)
    with pytest.raises(UserError, match="must lie in"):
        FileSource(file, image_folder=here / "set")
    data = {"tasks": [{"task": "mine", "path": rows("link.png"), "scorer": "letter"}]}
    with pytest.raises(UserError, match="must lie in"):
        TaskSequenceDataModule(**data)  # type: ignore[arg-type]  # as YAML has it
    TaskSequenceDataModule(**data, image_roots=[str(here)])  # type: ignore[arg-type]
    Path("eval.yaml").write_text(json.dumps({"held_out": data["tasks"], "image_roots": [str(here)]}))
    assert read_questions(Path("eval.yaml")).tasks


@pytest.mark.parametrize("wrong", ["/", ["nowhere"], [3]])
def test_roots_have_to_be_folders(wrong: Any) -> None:
    with pytest.raises(UserError, match=r"data\.image_roots must be"):
        TaskSequenceDataModule(["count"], image_roots=wrong)


def test_such_rows_are_dropped_where_bad_rows_are() -> None:
    Path("set/rows.jsonl").write_text(
        "".join(
            json.dumps(
                {"id": i, "image": "link.png" if i == 3 else "own.png", "question": f"q{i}", "answer": "a"}
            )
            + "\n"
            for i in range(20)
        )
    )
    source = FileSource("set/rows.jsonl", on_bad_row="drop")
    assert [bad.row for bad in source.bad_rows] == [4]


def test_a_link_that_appears_later_is_not_followed() -> None:
    row = first(FileSource(rows("own.png")))
    Path("set/own.png").unlink()
    Path("set/own.png").symlink_to("../private.png")
    with pytest.raises(UserError, match="must lie in"):
        open_picture(row.images[0], "here")


def test_links_of_the_hubs_cache_lead_to_its_blobs(here: Path) -> None:
    snapshot, blobs = here / "datasets--o--n" / "snapshots" / "abc", here / "datasets--o--n" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    Path("set/own.png").rename(blobs / "1")
    (snapshot / "a.png").symlink_to("../../blobs/1")
    assert colour(first(FileSource(rows("a.png", str(snapshot / "rows.jsonl"))))) == (0, 128, 0)
    with pytest.raises(UserError, match="must lie in"):
        FileSource(rows("../../../private.png", str(snapshot / "rows.jsonl")))


def test_a_table_reads_no_picture_outside_either(here: Path) -> None:
    def write(path: str) -> None:
        images = [{"bytes": None, "path": path}] * 20
        pq.write_table(
            pa.table({"image": images, "question": [f"q{i}" for i in range(20)], "answer": ["a"] * 20}),
            "set/rows.parquet",
        )

    for path in (str(here / "private.png"), "../private.png", "link.png"):
        write(path)
        with pytest.raises(UserError, match="must lie in"):
            FileSource("set/rows.parquet")
    write(str(here / "set" / "own.png"))
    assert colour(first(FileSource("set/rows.parquet"))) == (0, 128, 0)


def test_files_of_rows_in_a_folder_are_no_links_out_of_it() -> None:
    rows("own.png", "elsewhere.jsonl")
    Path("train").mkdir()
    for name in ("train.jsonl", "test.jsonl"):
        Path("train", name).symlink_to("../elsewhere.jsonl")
    with pytest.raises(UserError, match=r"path: what train holds must lie in it, got the link .*\.jsonl to"):
        FileSource("train")
    Path("parts").mkdir()
    for name in ("train", "test"):
        Path("parts", name).symlink_to("../set")
    with pytest.raises(UserError, match="must lie in it, got the link"):
        FileSource("parts")


def test_a_folder_of_classes_reads_no_links_out() -> None:
    for label in ("robin", "wren"):
        Path("birds", label).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (4, 4), (number, 0, 0)).save(f"birds/{label}/{number}.png")
    Path("birds/wren/x.png").symlink_to("../../private.png")
    with pytest.raises(UserError, match=r"a picture must lie in .*/birds, got .*x\.png"):
        FileSource("birds", prompt="What is it?")


def test_a_saved_dataset_names_only_its_own_files() -> None:
    datasets.Dataset.from_dict({"question": ["q"] * 20, "answer": ["a"] * 20}).save_to_disk("saved")
    state = json.loads(Path("saved/state.json").read_text())
    name = state["_data_files"][0]["filename"]
    os.rename(f"saved/{name}", "outside.arrow")
    state["_data_files"] = [{"filename": "../outside.arrow"}]
    Path("saved/state.json").write_text(json.dumps(state))
    with pytest.raises(UserError, match="must lie in it"):
        FileSource("saved")


def tar_of(members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open("set/shard.tar", "w") as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return Path("set/shard.tar")


def member(
    name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info, data


def test_a_shard_writes_nothing_and_follows_no_link(here: Path) -> None:
    row = json.dumps({"question": "q", "answer": "a"}).encode()
    shard = tar_of(
        [
            member("../../evil.json", row),
            member(f"{here}/absolute.json", row),
            member("sample.json", row),
            member("sample.png", kind=tarfile.SYMTYPE, link=str(here / "private.png")),
            member("sample.jpg", kind=tarfile.LNKTYPE, link="../private.png"),
            member("sample.cls", kind=tarfile.CHRTYPE),
        ]
    )
    before = sorted(here.rglob("*"))
    records = TarRecords([shard], PictureRoots.of(Path("set")))
    assert len(records) == 3
    assert all("images" not in record for record in records)
    assert sorted(here.rglob("*")) == before and not Path("../../evil.json").exists()


@pytest.mark.parametrize("path", ["../private.png", "link.png", "/etc/hostname"])
def test_a_shards_row_names_no_picture_outside(path: str) -> None:
    text = json.dumps({"question": "q", "answer": "a", "image": path}).encode()
    tar_of([member(f"{number}.json", text) for number in range(20)])
    with pytest.raises(UserError, match="must lie in"):
        FileSource("set/shard.tar")


def test_a_shard_whose_member_leads_back_is_broken() -> None:
    """Such a header once kept Python's tarfile reading for ever (CVE-2025-8194)."""
    tar_of([member("1.json", b"{}"), member("2.json", b"{}")])
    data = bytearray(Path("set/shard.tar").read_bytes())
    data[1024 + 124 : 1024 + 136] = struct.pack(">B", 0xFF) + (-1024).to_bytes(11, "big", signed=True)
    data[1024 + 148 : 1024 + 156] = b"        "
    data[1024 + 148 : 1024 + 156] = b"%06o\0 " % sum(data[1024:1536])
    Path("set/shard.tar").write_bytes(data)
    with pytest.raises(UserError, match="is truncated behind byte"):
        FileSource("set/shard.tar")


def copy_of(card: str = "") -> Path:
    folder = Path("root/owner/name")
    folder.mkdir(parents=True)
    rows("x.png", str(folder / "train.jsonl"))
    (folder / "README.md").write_text(card)
    return folder


@pytest.mark.parametrize("before", ["---\nsaid: a---b\n", " ---\n", "---\r\n"])
def test_a_card_is_read_as_the_library_reads_it(tmp_path: Path, before: str) -> None:
    (tmp_path / "README.md").write_bytes(f"{before}data_files: http://10.0.0.1/x.jsonl\n---\n".encode())
    with pytest.raises(UserError, match="its card names http"):
        check_card(tmp_path, "owner/name")


@pytest.mark.parametrize(
    "path", ["../../../private.jsonl", "{here}/private.jsonl", "http://169.254.169.254/x.jsonl"]
)
def test_a_card_names_only_files_of_its_own_copy(
    here: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows("x.png", "private.jsonl")
    place = path.format(here=here)
    copy_of(
        f"---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: {place}\n---\n"
    )
    asked: list[Any] = []
    monkeypatch.setattr("socket.getaddrinfo", lambda *args, **_: asked.append(args))
    with pytest.raises(UserError, match="must bring its rows itself, its card names"):
        HubTable("owner/name", "train").load(Path("root"))
    assert not [host for host, *_ in asked if host == "169.254.169.254"]


def test_rows_of_the_hub_name_no_file_at_all(here: Path) -> None:
    copy_of()
    source = hub_source("owner/name", True, {"test": "train"}).at("root")
    with pytest.raises(UserError, match="a picture must stand in the table itself"):
        source.split("test")[0]


def test_a_table_of_a_copy_reads_no_picture_outside(here: Path) -> None:
    folder = Path("root/owner/name")
    folder.mkdir(parents=True)
    image = {"bytes": None, "path": str(here / "private.png")}
    table = pa.table({"image": [image], "question": ["q"], "answer": ["a"]})
    pq.write_table(table, folder / "test.parquet")
    picture = HubTable("owner/name", "test").load(Path("root"))[0]["image"]
    assert isinstance(picture, PictureFile)
    with pytest.raises(UserError, match="a picture must lie in"):
        picture()


@pytest.mark.parametrize("name", ["../../../../evil.jsonl", "/evil.jsonl", "x/../../evil.jsonl", "evil.txt"])
def test_an_archive_of_a_copy_unpacks_nothing_outside(here: Path, name: str) -> None:
    folder = Path("root/owner/name")
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "train.zip", "w") as archive:
        for one in ("a.jsonl", "b.jsonl", name):
            archive.writestr(one, json.dumps({"name": one}))
    with suppress(UserError):  # of most such archives `datasets` finds no member at all
        HubTable("owner/name", "train").load(Path("root"))
    cache = Path(datasets.config.HF_DATASETS_CACHE)
    around = [here, *here.parents, cache.parent, *cache.parent.parents]
    assert not [place / "evil.jsonl" for place in around if (place / "evil.jsonl").exists()]
    assert not list(here.rglob("evil*"))


@pytest.mark.parametrize("digest", ["../../../etc/passwd", "/etc/passwd", "A" * 64, "a" * 63, ""])
def test_a_hash_is_no_path(digest: str) -> None:
    with pytest.raises(ValueError, match="must be 64 hexadecimal digits"):
        picture_path(Path("folder"), digest)
    assert picture_path(Path("folder"), "ab" * 32) == Path("folder/ab") / ("ab" * 32)


@pytest.mark.parametrize("row", ["../../x", "/etc/passwd", "a\0b", "x" * 9999])
def test_a_rows_name_is_no_files_name(row: str) -> None:
    assert picture_name(row) == hashlib.sha256(row.encode()).hexdigest()[:16] + ".jpg"
