"""Labels are moved apart and no farther than needed; numbers carry the sign they should."""

import itertools

import numpy as np
import pytest

from lmmcl.report.style import CATEGORIES, signed, spread


@pytest.mark.parametrize("seed", range(20))
def test_labels_stand_apart_in_their_order_and_inside(seed: int) -> None:
    generator = np.random.default_rng(seed)
    positions = generator.uniform(-5, 105, size=int(generator.integers(1, 12))).tolist()
    placed = spread(positions, 6.0, 0.0, 100.0)
    order = np.argsort(positions, kind="stable")
    for below, above in itertools.pairwise(order):
        assert placed[above] - placed[below] >= 6.0 - 1e-9
    assert min(placed) >= -1e-9 and max(placed) <= 100 + 1e-9


def test_labels_with_room_stay_where_they_are() -> None:
    assert spread([10.0, 50.0, 30.0], 5.0, 0.0, 100.0) == [10.0, 50.0, 30.0]


def test_labels_that_touch_share_their_mean() -> None:
    assert spread([50.0, 50.0], 4.0, 0.0, 100.0) == [48.0, 52.0]


def test_signs() -> None:
    assert [signed(12.3), signed(-12.3), signed(0.0), signed(-0.4), signed(-0.4, 1)] == [
        "+12",
        "−12",
        "0",
        "0",
        "−0.4",
    ]


def test_every_category_can_be_read_as_text_on_white() -> None:
    for colour in CATEGORIES:
        rgb = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
        luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        assert 1.05 / (luminance + 0.05) >= 4.5, colour
