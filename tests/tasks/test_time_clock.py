"""TimeClock and its two relatives: the time in a fixed format."""

from pathlib import Path

import pytest

from tests.tasks.rows import rows, text


@pytest.mark.parametrize("name", ["time_clock", "coco_clock", "openimg_clock"])
def test_evaluation_names_the_format(name: str, root: Path) -> None:
    row = rows(name, "test", root)[2]
    assert text(row) == "What time does the clock show in this image?\nAnswer with the time in HH:MM format."
    assert (row.answer, row.gold) == ("03:14", "03:14")
