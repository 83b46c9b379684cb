"""Pictures are whole PNG and SVG files with the same bytes every time."""

from pathlib import Path
from xml.etree import ElementTree

import matplotlib
from PIL import Image

from lmmcl.report.figures import draw_comparison, draw_run
from tests.report.fake_run import fake_run


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    matrix, summary = fake_run(n=60)
    assert summary is not None
    first = draw_run(matrix, summary, tmp_path / "a") + draw_comparison({"full": [summary]}, tmp_path / "a")
    with matplotlib.rc_context({"font.size": 30, "svg.hashsalt": "another", "figure.dpi": 50}):
        second = draw_run(matrix, summary, tmp_path / "b") + draw_comparison(
            {"full": [summary]}, tmp_path / "b"
        )
    assert [path.name for path in first] == [path.name for path in second]
    assert {path.name for path in first} == {
        f"{name}.{suffix}" for name in ("matrix", "curves", "comparison") for suffix in ("png", "svg")
    }
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


def test_pictures_can_be_opened(tmp_path: Path) -> None:
    for path in draw_run(*fake_run(n=60), tmp_path):
        if path.suffix == ".png":
            with Image.open(path) as picture:
                assert min(picture.size) > 500
        else:
            assert ElementTree.parse(path).getroot().tag.endswith("svg")
            assert b"<dc:date>" not in path.read_bytes()


def test_the_base_model_alone_has_no_curves(tmp_path: Path) -> None:
    matrix, summary = fake_run(stages=0, n=60)
    assert {path.stem for path in draw_run(matrix, summary, tmp_path)} == {"matrix"}
