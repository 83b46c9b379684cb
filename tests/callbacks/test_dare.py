"""DARE along a sequence: what is dropped is the base's again, what is kept is rescaled."""

from pathlib import Path

import pytest
import torch

from lmmcl.callbacks import DARE
from lmmcl.errors import UserError
from tests.callbacks.stage_changes import watched


def test_every_value_of_a_change_is_undone_or_rescaled_by_a_draw_of_each_task(
    tiny: Path, tmp_path: Path
) -> None:
    watch = watched(tiny, tmp_path / "run", DARE(drop=0.75, measure_before=False))
    for start, end, after in zip(watch.starts, watch.ends, watch.afters, strict=True):
        undone = values = 0
        for name, value in after.items():
            dropped = value == start[name]
            rescaled = start[name] + (end[name] - start[name]) / 0.25
            torch.testing.assert_close(value[~dropped], rescaled[~dropped])
            undone, values = undone + int(dropped.sum()), values + value.numel()
        assert undone / values == pytest.approx(0.75, abs=0.03)
    # The third task drops other values of the same tensors than the first.
    same = [
        (watch.afters[0][name] == watch.starts[0][name]) == (watch.afters[2][name] == watch.starts[2][name])
        for name in watch.afters[0]
    ]
    assert float(torch.cat([mask.flatten() for mask in same]).float().mean()) == pytest.approx(
        0.625, abs=0.03
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"drop": 1.0}, r"DARE.drop must lie in \[0, 1\), got 1.0"),
        ({"weight": -1.0}, r"DARE.weight must be at least 0, got -1.0"),
    ],
)
def test_a_value_out_of_range_is_named(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DARE(**arguments)  # type: ignore[arg-type]  # numbers, not names
