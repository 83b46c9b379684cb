"""WebDataset shards: indexed once, read by seeking, never unpacked."""

import io
import json
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import lmmcl.data.files.tar_index
from lmmcl.data.files.tar_index import TarIndex, tar_index
from lmmcl.data.pictures.picture import open_picture
from lmmcl.data.row import Row
from lmmcl.data.sources import FileSource
from lmmcl.errors import UserError
from tests.data.processors import say


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path / "data")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def png(colour: str = "red") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(stream, "PNG")
    return stream.getvalue()


def shard(name: str, members: list[tuple[str, bytes | dict[str, Any]]], **options: Any) -> Path:
    with tarfile.open(name, "w", **options) as archive:
        for member, content in members:
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            entry = tarfile.TarInfo(member)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return Path(name)


def sample(key: str, **record: Any) -> list[tuple[str, bytes | dict[str, Any]]]:
    return [(f"{key}.png", png()), (f"{key}.json", {"question": f"q {key}", "answer": f"a {key}", **record})]


def read(path: Any, **options: Any) -> list[Row]:
    return list(FileSource(path, held_out=True, split={"test": 1.0}, **options).split("test"))


def test_members_with_one_key_are_one_row() -> None:
    shard("a.tar", [*sample("000", category="c"), *sample("001")])
    first, second = read("a.tar")
    assert (first.id, second.id) == ("a/000", "a/001")
    assert first.messages == [say("user", "IMAGE", "q 000"), say("assistant", "a 000")]
    assert first.meta == {"category": "c"}
    assert open_picture(second.images[0], "here").getpixel((0, 0)) == (255, 0, 0)


def test_texts_classes_and_several_pictures() -> None:
    shard(
        "a.tar",
        [
            ("x.0.png", png("red")),
            ("x.1.PNG", png("blue")),
            ("x.txt", b"two squares\n"),
            ("y.jpg", png()),
            ("y.cls", b"3"),
        ],
    )
    first, second = read("a.tar", prompt="What is it?")
    assert (first.answer, second.answer) == ("two squares", "3")
    assert [open_picture(image, "here").getpixel((0, 0)) for image in first.images] == [
        (255, 0, 0),
        (0, 0, 255),
    ]
    assert [row.answer for row in read("a.tar", prompt="What is it?", columns={"answer": "answer"})] == [
        "two squares",
        "3",
    ]


def test_the_key_ends_at_the_first_dot_of_the_base_name() -> None:
    shard(
        "a.tar",
        [
            ("./v1.2/000.left.png", png()),
            ("./v1.2/000.json", {"question": "q", "answer": "A"}),
            ("README", b""),
        ],
    )
    (row,) = read("a.tar")
    assert row.id == "a/./v1.2/000"
    assert len(row.images) == 1


def test_shards_are_named_by_braces_and_globs_and_rows_keep_their_shard() -> None:
    for number in range(3):
        shard(f"s-{number:03d}.tar", sample("000"))
    expected = ["s-000/000", "s-001/000", "s-002/000"]
    assert [row.id for row in read("s-{000..002}.tar")] == expected
    assert [row.id for row in read("s-*.tar")] == expected
    assert [row.id for row in read(".")] == expected


def test_a_sample_of_a_conversation_takes_its_pictures_from_the_shard() -> None:
    turns = [{"from": "human", "value": "<image>\nWhy?"}, {"from": "gpt", "value": "So."}]
    shard("a.tar", [("0.png", png()), ("0.json", {"conversations": turns, "image": "somewhere/else.png"})])
    (row,) = read("a.tar")
    assert open_picture(row.images[0], "here").size == (4, 4)


def test_rows_are_cheap_to_send_and_nothing_is_written_beside_the_data() -> None:
    shard("a.tar", [entry for number in range(200) for entry in sample(f"{number:03d}")])
    source = FileSource("a.tar")
    rows = source.split("train")
    assert len(pickle.dumps(rows)) < 40_000
    assert [row.id for row in pickle.loads(pickle.dumps(rows))] == [row.id for row in rows]
    assert os.listdir() == ["a.tar"]
    assert sum(len(source.split(part)) for part in ("train", "dev", "test")) == 200


def test_a_member_is_read_and_never_unpacked_whatever_its_name() -> None:
    shard(
        "a.tar",
        [
            ("../../evil.json", {"question": "q", "answer": "A"}),
            ("/tmp/evil2.json", {"question": "r", "answer": "B"}),
        ],
    )
    assert [row.answer for row in read("a.tar")] == ["A", "B"]
    assert not Path("../../evil.json").exists() and not Path("/tmp/evil2.json").exists()


def test_the_index_is_kept_until_the_shard_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Path] = []
    scan = lmmcl.data.files.tar_index._scan

    def spy(path: Path, size: int) -> TarIndex:
        calls.append(path)
        return scan(path, size)

    monkeypatch.setattr(lmmcl.data.files.tar_index, "_scan", spy)
    path = shard("a.tar", sample("0"))
    first = read("a.tar")
    assert [row.id for row in read("a.tar")] == [row.id for row in first]
    assert len(calls) == 1
    shard("a.tar", [*sample("0"), *sample("1")])
    assert len(tar_index(path)) == 2
    assert len(calls) == 2


def test_a_shard_of_the_size_and_time_of_another_is_no_other() -> None:
    path = shard("a.tar", sample("0"))
    before = path.stat()
    assert tar_index(path).key(0) == "0"
    shard("a.tar", sample("1"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert tar_index(path).key(0) == "1"


def test_the_fingerprint_follows_the_members_and_not_the_place() -> None:
    first = FileSource(shard("a.tar", sample("0")), held_out=True, split={"test": 1.0}).fingerprint()
    Path("elsewhere").mkdir()
    Path("a.tar").rename("elsewhere/a.tar")
    assert FileSource("elsewhere/a.tar", held_out=True, split={"test": 1.0}).fingerprint() == first
    other = shard("a.tar", sample("0", more="text"))
    assert FileSource(other, held_out=True, split={"test": 1.0}).fingerprint() != first


def test_the_fingerprint_and_the_verdict_follow_the_answers() -> None:
    def fingerprint(answer: str) -> str:
        path = shard("a.tar", sample("0", answer=answer))
        return FileSource(path, held_out=True, split={"test": 1.0}).fingerprint()

    assert fingerprint("A") != fingerprint("B")
    shard("a.tar", sample("0", answer=" "))
    with pytest.raises(UserError, match="an answer must not be empty"):
        read("a.tar")


def test_pictures_outside_the_shard_are_looked_at_every_time() -> None:
    shard("a.tar", [("0.json", {"question": "q", "answer": "A", "image": "out.png"}), *sample("1")])
    for _ in range(2):
        with pytest.raises(UserError, match=r"a\.tar, row 1: there is no picture out\.png"):
            read("a.tar")
        Path("out.png").write_bytes(png())
        assert [row.id for row in read("a.tar")] == ["a/0", "a/1"]
        Path("out.png").unlink()


def test_no_row_of_a_shard_stands_in_two_parts() -> None:
    def entry(colour: str, key: str) -> list[tuple[str, bytes | dict[str, Any]]]:
        # All of one size: only the bytes tell them apart.
        picture = png(colour).ljust(100, b"\0")
        return [(f"{key}.png", picture), (f"{key}.json", {"question": "q", "answer": "A"})]

    shard("tra.tar", [*entry("red", "0"), *entry("lime", "1")])
    shard("tes.tar", entry("blue", "2"))
    path = {"train": "tra.tar", "test": "tes.tar"}
    for _ in range(2):
        assert len(FileSource(path, split={"dev": 0.001}).split("test")) == 1
    shard("tes.tar", [*entry("blue", "2"), *entry("lime", "3")])
    for _ in range(2):
        with pytest.raises(
            UserError, match=r"tes\.tar, row 2: no row may stand in two parts, got row 'tra/1'"
        ):
            FileSource(path, split={"dev": 0.001})


@pytest.mark.parametrize("cut", [10, 512 * 3 + 100, 512 * 5, 512 * 5 + 17, -1024])
def test_a_truncated_shard_is_named_with_the_byte(cut: int) -> None:
    path = shard("a.tar", [*sample("0"), *sample("1")], format=tarfile.USTAR_FORMAT)
    with tarfile.open(path) as archive:
        members = archive.getmembers()
        end = archive.offset
    whole = path.read_bytes()[: end + 1024]
    path.write_bytes(whole[:cut])
    ends = [member.offset_data + (member.size + 511) // 512 * 512 for member in members]
    size = len(whole[:cut])
    sound = max(
        (end for end, one in zip(ends, members, strict=True) if one.offset_data + one.size <= size), default=0
    )
    with pytest.raises(
        UserError, match=rf"a\.tar: is (no tar file|truncated behind byte {sound}, of {size} it has)"
    ):
        read("a.tar")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("README", b"x")], "must hold samples"),
        ([*sample("0"), *sample("1"), ("0.txt", b"x")], "'0' stands in two places"),
        ([*sample("0"), ("1.json", b"{"), ("1.png", b"")], r"a\.tar, row 2: its \.json is not JSON"),
        ([*sample("0"), ("1.json", b"[]")], r"a\.tar, row 2: its \.json must be a JSON object"),
        ([*sample("0"), ("1.txt", b"\xff")], r"a\.tar, row 2: its \.txt must be UTF-8"),
        ([*sample("0"), ("1.json", {"question": "q"})], r"a\.tar, row 2: .*there is no 'answer'"),
    ],
)
def test_a_broken_shard_is_named(members: Any, message: str) -> None:
    shard("a.tar", members)
    with pytest.raises(UserError, match=message):
        read("a.tar")


def test_a_compressed_shard_is_to_be_unpacked_once() -> None:
    with tarfile.open("a.tar", "w:gz"):
        pass
    with pytest.raises(UserError, match="must be an uncompressed tar file"):
        read("a.tar")
    Path("a.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(UserError, match="is no tar file"):
        read("a.tar")


def test_a_key_is_the_only_name_of_a_sample() -> None:
    shard("a.tar", sample("0", number=7))
    with pytest.raises(UserError, match="columns: rows of tar shards are named by their keys"):
        read("a.tar", columns={"id": "number"})


def test_a_sample_of_a_video_is_named_unless_it_has_pictures() -> None:
    text = json.dumps({"question": "q", "answer": "A"}).encode()
    shard("a.tar", [("0.json", text), ("0.mp4", b"film")])
    with pytest.raises(UserError, match=r"a\.tar, row 1: a row shows pictures alone, the sample has \.mp4"):
        read("a.tar")
    shard("b.tar", [("0.json", text), ("0.mp4", b"film"), ("0.png", png())])
    assert len(read("b.tar")[0].images) == 1


def test_shards_of_one_name_are_refused() -> None:
    for name in ("a", "b"):
        Path(name).mkdir()
        shard(f"{name}/s.tar", sample("0"))
    with pytest.raises(UserError, match="shards must differ in their names"):
        read(["a/s.tar", "b/s.tar"])


def test_dropped_samples_are_remembered() -> None:
    shard("a.tar", [*sample("0"), ("1.json", b"{"), *sample("2")])
    for _ in range(2):
        source = FileSource("a.tar", held_out=True, split={"test": 1.0}, on_bad_row="drop")
        assert [row.id for row in source.split("test")] == ["a/0", "a/2"]
        ((bad),) = source.bad_rows
        assert (bad.file, bad.row) == ("a.tar", 2)
        assert "not JSON" in bad.reason


def test_a_broken_picture_in_a_shard_is_named_with_its_row() -> None:
    shard("a.tar", [("0.png", b"no picture"), ("0.json", {"question": "q", "answer": "A"})])
    (row,) = read("a.tar")
    with pytest.raises(UserError, match=r"a\.tar, row 1: the picture 0\.png cannot be read"):
        open_picture(row.images[0], "here")


def test_a_shard_that_shrinks_later_is_an_error_of_its_row() -> None:
    shard("a.tar", sample("0"))
    (row,) = read("a.tar")
    Path("a.tar").write_bytes(Path("a.tar").read_bytes()[:520])
    with pytest.raises(UserError, match=r"a\.tar, row 1: the shard ends at byte 520, inside a member"):
        open_picture(row.images[0], "here")


def test_without_a_cache_folder_it_works_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    shard("a.tar", sample("0"))
    assert len(read("a.tar")) == 1
    assert "cannot be written" in caplog.text
