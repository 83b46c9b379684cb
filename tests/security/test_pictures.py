"""A picture is decoded only where its size is in bounds and its format is one of pictures."""

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageFile, PngImagePlugin

from lmmcl.data.bad_row import RowError
from lmmcl.data.pictures import picture
from lmmcl.data.pictures.picture import MAX_PIXELS, PictureFile, decode, open_picture
from lmmcl.data.sources import FileSource
from lmmcl.report.pictures import data_uri

SIDE = 20_000
"""Of a bomb: 400 million pixels."""


def png(width: int, height: int, bits: int = 8, kind: int = 2, more: bytes = b"") -> bytes:
    """A PNG of a few bytes that says it is as large."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + more + pixels + chunk(b"IEND", b"")


def gif(width: int, height: int) -> bytes:
    data = io.BytesIO()
    Image.new("P", (2, 2)).save(data, "GIF")
    return data.getvalue()[:6] + struct.pack("<HH", width, height) + data.getvalue()[10:]


def bmp(width: int, height: int) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 1, 1, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + head + bytes(100)


def tiff(width: int, height: int) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (2, 2)).save(data, "TIFF")
    made = data.getvalue()
    for tag, value in ((256, width), (257, height)):
        place = made.index(struct.pack("<HHI", tag, 4, 1)) if struct.pack("<HHI", tag, 4, 1) in made else -1
        if place < 0:
            place = made.index(struct.pack("<HHI", tag, 3, 1))
            made = made[:place] + struct.pack("<HHI", tag, 4, 1) + made[place + 8 :]
        made = made[: place + 8] + struct.pack("<I", value) + made[place + 12 :]
    return made


BOMBS = {"png": png, "gif": gif, "bmp": bmp, "tiff": tiff}


@pytest.fixture
def undecoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding is an error."""

    def load(*_: Any, **__: Any) -> Any:
        raise AssertionError("a picture was decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", load)


@pytest.mark.parametrize("kind", BOMBS)
@pytest.mark.usefixtures("undecoded")
def test_a_bomb_is_refused_before_it_is_decoded(kind: str) -> None:
    with pytest.raises(RowError, match=r"rows\.jsonl, row 1: the picture"):
        decode(io.BytesIO(BOMBS[kind](SIDE, SIDE)), "the picture", "rows.jsonl, row 1")


@pytest.mark.usefixtures("undecoded")
def test_the_limit_is_a_stated_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # as some library may do
    rows = MAX_PIXELS // 10_000
    with pytest.raises(RowError, match=r"at most 89,478,485 pixels, got 10,000 x 8,948; make it smaller"):
        decode(io.BytesIO(png(10_000, rows + 1)), "the picture", "here, row 1")
    with pytest.raises(AssertionError, match="was decoded"):
        decode(io.BytesIO(png(10_000, rows)), "the picture", "here, row 1")


def test_it_holds_wherever_a_picture_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture, "MAX_PIXELS", 99)
    data = io.BytesIO()
    Image.new("RGB", (10, 10)).save(data, "PNG")
    (tmp_path / "a.png").write_bytes(data.getvalue())
    columns = {
        "image": [data.getvalue()] * 20,
        "question": [f"q{i}" for i in range(20)],
        "answer": ["a"] * 20,
    }
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    inside = FileSource(tmp_path / "rows.parquet").split("test")[0].images[0]
    for one in (tmp_path / "a.png", PictureFile(tmp_path / "a.png", "here, row 1"), inside):
        with pytest.raises(RowError, match="must have at most 99 pixels"):
            open_picture(one, "here, row 1")
    assert data_uri(tmp_path / "a.png") == ""  # a run folder may be somebody else's, too
    monkeypatch.setattr(picture, "MAX_PIXELS", 100)
    assert open_picture(tmp_path / "a.png", "here").size == (10, 10) and data_uri(tmp_path / "a.png")


def test_only_pictures_are_opened_whatever_a_file_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow runs Ghostscript on a file that begins as PostScript does."""
    sprung = tmp_path / "sprung"
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {sprung}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", "gs", raising=False)
    (tmp_path / "a.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    )
    with pytest.raises(RowError, match="cannot identify image file"):
        open_picture(tmp_path / "a.png", "here, row 1")
    assert not sprung.exists()
    with Image.open(tmp_path / "a.png") as other, pytest.raises(OSError, match=r".*"):
        other.load()
    assert sprung.exists()  # else the test proves nothing


@pytest.mark.parametrize("name", [b"zTXt", b"iTXt", b"iCCP"])
def test_a_text_that_unpacks_without_end_is_cut_off(name: bytes) -> None:
    packed = zlib.compress(bytes(30_000_000), 6)
    head = {b"zTXt": b"k\0\0", b"iTXt": b"k\0\1\0\0\0", b"iCCP": b"k\0\0"}[name]
    data = head + packed
    chunk = struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    held = np.frombuffer(chunk, np.uint8)
    assert len(held) < 1_000_000
    try:
        found = decode(io.BytesIO(png(10, 10, more=chunk)), "the picture", "here, row 1")
    except RowError:
        return
    assert all(len(value) < 10_000_000 for value in found.info.values() if isinstance(value, str | bytes))


@pytest.mark.parametrize("cut", [20, 40, 60])
def test_a_truncated_picture_is_an_error(cut: int) -> None:
    data = io.BytesIO()
    Image.new("RGB", (50, 50), "red").save(data, "PNG")
    with pytest.raises(RowError, match="cannot be read"):
        decode(io.BytesIO(data.getvalue()[:cut]), "the picture", "here, row 1")


def test_a_deep_picture_is_scaled_in_bands_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """As float64 at once it would take many times the memory that the limit counts."""
    random = np.random.default_rng(0)
    for values in (
        random.integers(0, 65536, (37, 11)).astype(np.uint16),
        random.integers(-9, 70000, (37, 11)).astype(np.int32),
        random.normal(size=(37, 11)).astype(np.float32),
    ):
        deep = Image.fromarray(values)
        whole = np.asarray(picture.upright(deep))
        monkeypatch.setattr(picture, "_ROWS", 40)
        assert (np.asarray(picture.upright(deep)) == whole).all()
        monkeypatch.undo()
