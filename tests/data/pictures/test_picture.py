"""Odd pictures come out upright and RGB; broken ones are named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lmmcl.data.pictures.picture import PictureFile, open_picture
from lmmcl.errors import UserError


def opened(path: Path) -> Image.Image:
    picture = PictureFile(path, "rows.jsonl, row 3")()
    assert picture.mode == "RGB"
    return picture


def pixel(path: Path, place: tuple[int, int] = (0, 0)) -> Any:
    return opened(path).getpixel(place)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.array([[0, 257, 32768, 65535]], np.uint16)).save(path)
    assert [pixel(path, (x, 0)) for x in range(4)] == [(grey,) * 3 for grey in (0, 1, 128, 255)]


def test_32_bit_integers_are_scaled_from_16_bits_or_from_their_largest(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 65535]], np.int32)).save(tmp_path / "a.tif")
    assert pixel(tmp_path / "a.tif", (1, 0)) == (255, 255, 255)
    Image.fromarray(np.array([[0, 1_000_000, 2_000_000]], np.int32)).save(tmp_path / "b.tif")
    assert [pixel(tmp_path / "b.tif", (x, 0))[0] for x in range(3)] == [0, 128, 255]


def test_floats_are_scaled_from_least_to_largest(tmp_path: Path) -> None:
    Image.fromarray(np.array([[-1.0, 0.0, 1.0, np.nan]], np.float32)).save(tmp_path / "a.tif")
    assert [pixel(tmp_path / "a.tif", (x, 0))[0] for x in range(3)] == [0, 128, 255]
    Image.fromarray(np.zeros((1, 2), np.float32)).save(tmp_path / "b.tif")
    assert pixel(tmp_path / "b.tif") == (0, 0, 0)


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    red, green, blue = pixel(tmp_path / "a.jpg")
    assert red > 200 and green < 60 and blue < 60


def test_a_palette_with_transparency_shows_white_where_nothing_is(tmp_path: Path) -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.putpixel((1, 0), 1)
    picture.save(tmp_path / "one.png", transparency=0)
    picture.save(tmp_path / "many.png", transparency=bytes([0, 255]))
    for name in ("one", "many"):
        found = [pixel(tmp_path / f"{name}.png", (x, 0)) for x in range(2)]
        assert found == [(255, 255, 255), (0, 0, 255)]


def test_transparent_colours_and_greys_are_laid_on_white(tmp_path: Path) -> None:
    Image.new("RGBA", (2, 2), (0, 0, 0, 0)).save(tmp_path / "a.png")
    Image.new("LA", (2, 2), (0, 51)).save(tmp_path / "b.png")
    assert pixel(tmp_path / "a.png") == (255, 255, 255)
    assert pixel(tmp_path / "b.png") == (204, 204, 204)


def test_the_first_frame_of_an_animation_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert pixel(tmp_path / "a.gif") == (255, 0, 0)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_a_picture_is_turned_as_its_exif_data_say(tmp_path: Path, suffix: str) -> None:
    picture = Image.new("RGB", (32, 16), "red")
    picture.paste("blue", (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    picture.save(tmp_path / f"a.{suffix}", exif=exif)
    turned = opened(tmp_path / f"a.{suffix}")
    assert turned.size == (16, 32)
    above, below = (np.array(turned.getpixel((8, y))) for y in (4, 28))
    assert above[2] > 200 > above[0] and below[0] > 200 > below[2]


@pytest.mark.parametrize(("mode", "colour"), [("1", 1), ("L", 255), ("YCbCr", (255, 128, 128))])
def test_other_modes_become_rgb(tmp_path: Path, mode: str, colour: Any) -> None:
    Image.new(mode, (3, 3), colour).save(tmp_path / "a.tif")
    assert pixel(tmp_path / "a.tif") == (255, 255, 255)


@pytest.mark.parametrize("size", [(1, 1), (1, 999), (5000, 20)])
def test_odd_shapes_keep_their_size(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size).save(tmp_path / "a.png")
    assert opened(tmp_path / "a.png").size == size


@pytest.mark.parametrize("limit", [40, 70])  # below half of the pixels Pillow refuses, below all it warns
def test_too_many_pixels_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    Image.new("RGB", (10, 10)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(UserError, match=r"rows\.jsonl, row 3: picture .*a\.png cannot be read \(Image size"):
        opened(tmp_path / "a.png")


@pytest.mark.parametrize("cut", [0, 20, 700])
def test_a_broken_picture_is_named_with_file_and_row(tmp_path: Path, cut: int) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:cut])
    with pytest.raises(
        UserError, match=r"rows\.jsonl, row 3: picture .*a\.png cannot be read \(.*; repair it"
    ):
        opened(tmp_path / "a.png")


def test_pictures_in_memory_become_rgb_too(tmp_path: Path) -> None:
    assert open_picture(Image.new("RGBA", (2, 2), (0, 0, 0, 0)), "here").getpixel((0, 0)) == (255, 255, 255)
    rgb = Image.new("RGB", (2, 2))
    assert open_picture(rgb, "here") is rgb
    rgb.save(tmp_path / "a.png")
    assert open_picture(tmp_path / "a.png", "here").size == (2, 2)
