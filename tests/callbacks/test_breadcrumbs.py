"""Breadcrumbs along a sequence: both ends of every tensor's change are the base's again."""

from pathlib import Path

import pytest
import torch

from lmmcl.callbacks import Breadcrumbs
from lmmcl.errors import UserError
from tests.callbacks.stage_changes import watched


def test_the_largest_and_smallest_of_a_change_are_undone_and_the_rest_is_kept_exactly(
    tiny: Path, tmp_path: Path
) -> None:
    watch = watched(tiny, tmp_path / "run", Breadcrumbs(smallest=0.6, largest=0.1, measure_before=False))
    for start, end, after in zip(watch.starts, watch.ends, watch.afters, strict=True):
        for name, value in after.items():
            change = (end[name] - start[name]).abs()
            kept = (value == end[name]) & (change > 0)
            assert torch.equal(value[~kept], start[name][~kept])
            limits = change.flatten().sort().values
            least, beyond = limits[round(0.6 * len(limits))], limits[-round(0.1 * len(limits))]
            assert torch.equal(kept, (change >= least) & (change < beyond) & (change > 0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"smallest": 1.5}, r"Breadcrumbs.smallest must lie in \[0, 1\], got 1.5"),
        ({"smallest": 0.9, "largest": 0.2}, r"Breadcrumbs.largest must lie in \[0, 1 − smallest\], got 0.2"),
        ({"weight": -1.0}, r"Breadcrumbs.weight must be at least 0, got -1.0"),
    ],
)
def test_a_value_out_of_range_is_named(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Breadcrumbs(**arguments)  # type: ignore[arg-type]  # numbers, not names
