"""Pictures, looked at without decoding them."""

from pathlib import Path

import pytest
from PIL import Image

from lmmcl.data.pictures.picture import PictureFile
from lmmcl.data.row import ImageSource
from lmmcl.errors import UserError
from lmmcl.preflight.look import Look, look
from tests.data.processors import simple


def seen(source: ImageSource, decode: bool = False) -> Look:
    row = simple("one")
    return look(type(row)(row.id, row.messages, (source,)), decode)[0]


def test_the_header_gives_height_and_width_without_decoding(tmp_path: Path) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    found = seen(PictureFile(tmp_path / "a.png", "rows, row 1"))
    assert (found.size, found.decoded, len(found.marks)) == ((20, 30), False, 1)


def test_a_turned_picture_counts_upright_as_training_sees_it(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=exif)
    picture = PictureFile(tmp_path / "a.jpg", "rows, row 1")
    assert seen(picture).size == seen(picture, decode=True).size == (30, 20)


def test_copies_share_the_files_mark_and_other_encodings_the_pixels(tmp_path: Path) -> None:
    picture = Image.effect_noise((16, 16), 50).convert("RGB")
    picture.save(tmp_path / "a.png")
    picture.save(tmp_path / "b.bmp")
    (tmp_path / "c.png").write_bytes((tmp_path / "a.png").read_bytes())
    a, b, c = (seen(PictureFile(tmp_path / name, ""), decode=True) for name in ("a.png", "b.bmp", "c.png"))
    assert a.marks == c.marks
    assert a.marks[0] != b.marks[0]
    assert a.marks[1] == b.marks[1]


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_file_that_was_cut_is_found_though_its_header_is_whole(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.effect_noise((96, 96), 90).convert("RGB").save(path)
    path.write_bytes(path.read_bytes()[:-600])
    with pytest.raises(UserError, match=rf"rows, row 3: picture .*a\.{suffix} cannot be read"):
        seen(PictureFile(path, "rows, row 3"))


def test_a_file_that_is_no_picture_or_is_gone_is_named_with_its_row(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"text")
    for name in ("a.png", "gone.png"):
        with pytest.raises(UserError, match=f"rows, row 3: picture .*{name} cannot be read"):
            seen(PictureFile(tmp_path / name, "rows, row 3"))


def test_a_picture_that_a_function_makes_is_asked_for_only_in_the_sample() -> None:
    def draw() -> Image.Image:
        return Image.new("RGB", (30, 20))

    assert seen(draw) == Look(None, (), False)
    assert seen(draw, decode=True).size == (20, 30)
    assert seen(draw, decode=True).marks == seen(draw()).marks
