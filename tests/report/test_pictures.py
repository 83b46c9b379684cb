"""Pictures in the page: small, whole, and never an error."""

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from lmmcl.report.pictures import data_uri


def decoded(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition("base64,")[2])))


def test_a_small_picture_keeps_every_pixel() -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8))
    uri = data_uri(picture)
    assert uri.startswith("data:image/png;base64,")
    np.testing.assert_array_equal(np.asarray(decoded(uri)), np.asarray(picture))


def test_a_large_photograph_is_made_small(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (900, 600, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.png")
    uri = data_uri(tmp_path / "large.png")
    assert uri.startswith("data:image/jpeg;base64,")
    assert max(decoded(uri).size) == 320 and len(uri) < 200_000


def test_a_missing_or_broken_picture_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"not a picture")
    assert [data_uri(None), data_uri(tmp_path / "none.jpg"), data_uri(tmp_path / "broken.jpg")] == [
        "",
        "",
        "",
    ]
