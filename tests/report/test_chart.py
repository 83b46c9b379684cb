"""Charts: round axes, every number where it belongs, and texts that cannot leave their place."""

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from lmmcl.report.chart import Chart, Line, Note, round_ticks, thinned
from lmmcl.report.chart_figure import chart_figure
from lmmcl.report.chart_svg import line_chart, value_text
from lmmcl.report.figures import draw_charts
from lmmcl.report.svg import SHAPES, mark

CHART = Chart(
    "change",
    "Held-out",
    "In points.",
    [
        Line("chart <b>", [0, 1, 2], [0.0, -10.0, -5.0], [0, -12, -7], [0, -8, -3], weight="bold"),
        Line("scene", [0, 1, 2], [0.0, float("nan"), -2.0], weight="faint"),
    ],
    ticks=[(0.0, "base"), (1.0, "a"), (2.0, "b")],
    zero=True,
    notes=[Note(1.0, -10.0, "worst −10.0", "loss"), Note(2.0, -10.0, "+5.0 came back", "gain", back=-5.0)],
)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 100, [0, 20, 40, 60, 80, 100]),
        (-11, 2, [-10, -5, 0]),
        (0, 0.5, [0, 0.1, 0.2, 0.3, 0.4, 0.5]),
        (3, 3, [3]),
    ],
)
def test_ticks_are_round_and_inside(low: float, high: float, ticks: list[float]) -> None:
    assert round_ticks(low, high) == pytest.approx(ticks)


def test_no_tick_is_a_negative_zero() -> None:
    assert all(str(tick) != "-0.0" for tick in round_ticks(-3.0, 7.0))


def test_the_picture_is_whole_and_says_what_it_shows() -> None:
    root = ElementTree.fromstring(line_chart(CHART))
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"].startswith("Held-out. At the end: chart <b> −5")
    texts = [text.text for text in root.iter("text")]
    assert {"chart <b>", "scene", "base", "a", "b", "worst −10.0", "+5.0 came back", "−10"} <= set(texts)


def test_points_stand_in_the_order_of_their_values() -> None:
    tips = re.findall(r'cy="([\d.]+)" r="9"[^>]*data-tip="([^"]+)"', line_chart(CHART))
    heights = {words: float(y) for y, words in tips}
    zero, worst, end = (
        next(y for words, y in heights.items() if f"chart &lt;b&gt;, {n}:" in words)
        for n in ("base", "a", "b")
    )
    assert zero < end < worst
    assert (worst - zero) == pytest.approx(2 * (end - zero), abs=0.2)
    assert sum("scene" in words for words in heights) == 2


def test_nan_is_a_gap_and_not_a_number() -> None:
    assert "nan" not in line_chart(CHART)


def test_a_long_line_keeps_its_mean_and_its_ends() -> None:
    line = Line("loss", list(np.arange(5000.0)), list(np.linspace(3, 1, 5000)))
    short = thinned(line, 200)
    assert len(short.x) == len(short.y) == 200
    assert np.mean(short.y) == pytest.approx(2.0)
    assert short.y[0] == pytest.approx(3.0, abs=0.02) and short.y[-1] == pytest.approx(1.0, abs=0.02)


def test_every_category_has_its_own_mark() -> None:
    assert len({mark(kind, 10, 10, 5, "") for kind in range(SHAPES)}) == SHAPES
    for kind in range(1, SHAPES):
        corners = re.findall(r"([\d.]+),([\d.]+)", mark(kind, 10, 10, 5, ""))
        assert len(set(corners)) == len(corners) >= 3


def test_values_are_written_as_one_reads_them() -> None:
    assert [value_text(v, True) for v in (-10.0, 0.0, 2.5)] == ["−10", "0", "+2.5"]
    assert [value_text(v, False) for v in (0.0, 0.125, 12.5, 1e-5, float("nan"))] == [
        "0",
        "0.125",
        "12.5",
        "1e-05",
        "–",
    ]


def test_the_figure_holds_the_same_lines_and_the_same_bytes_twice(tmp_path: Path) -> None:
    axes = chart_figure(CHART).axes[0]
    found = [line for line in axes.lines if len(np.asarray(line.get_xdata())) == 3]
    np.testing.assert_array_equal(np.asarray(found[0].get_ydata()), CHART.lines[0].y)
    first = [path.read_bytes() for path in draw_charts([CHART], tmp_path)]
    assert [path.read_bytes() for path in draw_charts([CHART], tmp_path)] == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["change.png", "change.svg"]
