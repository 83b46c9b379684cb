"""Every colour of the page can be read, light and dark, and nothing that changed looks unchanged."""

import pytest

from lmmcl.report.heat import STEPS, contrast, luminance, reach_of, shades, step_of
from lmmcl.report.page import colours
from lmmcl.report.style import CATEGORIES


@pytest.mark.parametrize("dark", [False, True])
def test_every_cell_can_be_read(dark: bool) -> None:
    for step, (cell, ink) in shades(dark).items():
        assert contrast(cell, ink) >= 4.5, (step, cell, ink)


@pytest.mark.parametrize("dark", [False, True])
def test_every_text_colour_can_be_read_on_the_page_and_on_its_cards(dark: bool) -> None:
    known = colours(dark)
    texts = ["ink", "muted", "gain", "loss", *(f"k{i}" for i in range(len(CATEGORIES)))]
    for name in texts:
        for ground in ("paper", "raised"):
            assert contrast(known[name], known[ground]) >= 4.5, (name, ground)
    assert contrast(known["ink"], known["mark"]) >= 4.5


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.478, abs=1e-3)


@pytest.mark.parametrize("dark", [False, True])
def test_the_farther_from_no_change_the_farther_from_the_neutral_colour(dark: bool) -> None:
    found = {step: luminance(cell) for step, (cell, _) in shades(dark).items()}
    for side in (-1, 1):
        away = [found[side * step] for step in range(STEPS + 1)]
        assert away == sorted(away, reverse=not dark)


def test_steps_are_symmetric_and_never_hide_a_change() -> None:
    assert [step_of(change, 50.0) for change in (-80, -50, -25, 0, 25, 50, 80)] == [
        -10,
        -10,
        -5,
        0,
        5,
        10,
        10,
    ]
    assert (step_of(2.5, 50.0), step_of(-2.5, 50.0)) == (1, -1)
    assert step_of(0.4, 50.0) == 0


def test_the_scale_is_round_and_bounded() -> None:
    assert [reach_of(changes) for changes in ([], [3.0], [-41.0], [250.0])] == [20.0, 20.0, 50.0, 100.0]
