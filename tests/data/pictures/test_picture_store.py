"""A picture has its name only when it is whole and on disk."""

import hashlib
import os
from pathlib import Path

import pytest

from lmmcl.data.pictures.picture_store import PictureStore, picture_path
from lmmcl.errors import UserError

BODY = b"picture " * 40_000  # more than a buffer
SHA256 = hashlib.sha256(BODY).hexdigest()


def test_a_picture_is_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[object] = []
    replace = os.replace

    def sync(handle: int) -> None:
        done.append(os.fstat(handle).st_size)

    def rename(partial: Path, place: Path) -> None:
        done.append(os.stat(partial).st_size)
        replace(partial, place)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", rename)
    store = PictureStore(tmp_path)
    with store.incoming() as incoming:
        incoming.write(BODY[:7])
        incoming.write(BODY[7:])
        assert (incoming.size, incoming.sha256) == (len(BODY), SHA256)
        assert not store.holds(SHA256) and done == []
        incoming.keep()
    assert done == [len(BODY), len(BODY)]  # all of it was synced, then renamed
    assert store.holds(SHA256) and picture_path(tmp_path, SHA256).read_bytes() == BODY
    assert not list((tmp_path / "partial").iterdir())


def broken_off(store: PictureStore) -> None:
    with store.incoming() as incoming:
        incoming.write(BODY)
        raise KeyboardInterrupt


def test_what_is_not_kept_is_gone(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        broken_off(PictureStore(tmp_path))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_folder_that_takes_no_note_is_an_error(tmp_path: Path) -> None:
    store = PictureStore(tmp_path)
    (tmp_path / "failures.jsonl").mkdir()
    with pytest.raises(UserError, match=r"cannot take pictures \(Is a directory\); repair that"):
        store.note("failures.jsonl", "")


@pytest.mark.parametrize("text", ["", "../" + "a" * 61, "A" * 64])
def test_no_picture_lies_under_what_is_no_hash(tmp_path: Path, text: str) -> None:
    assert not PictureStore(tmp_path).holds(text)
