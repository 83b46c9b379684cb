"""TIES along a sequence, from sums, is TIES of all tasks' changes at once."""

from pathlib import Path

import pytest
import torch

from lmmcl.callbacks import TIES
from lmmcl.errors import UserError
from lmmcl.merge.ties import ties
from tests.callbacks.stage_changes import watched
from tests.merge.two_models import merged


def test_after_every_task_the_model_is_the_base_and_the_merge_of_all_changes(
    tiny: Path, tmp_path: Path
) -> None:
    watch = watched(tiny, tmp_path / "run", TIES(keep=0.6, weight=0.8, measure_before=False))
    base: dict[str, torch.Tensor] = {}
    changes: dict[str, list[torch.Tensor]] = {}
    for start, end, after in zip(watch.starts, watch.ends, watch.afters, strict=True):
        for name, value in after.items():
            base.setdefault(name, start[name])
            changes.setdefault(name, []).append(end[name] - start[name])
            tuned = [base[name] + change for change in changes[name]]
            expected = merged(lambda t: ties(t, 0.6, 0.8), base[name], *tuned)
            # Rounding of base + change may move a value over the limit of what is kept: all but a few are equal.
            apart = (value - expected).abs() > 1e-5
            assert float(apart.float().mean()) < 0.01
    assert max(len(found) for found in changes.values()) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keep": 1.5}, r"TIES.keep must lie in \[0, 1\], got 1.5"),
        ({"weight": -1.0}, r"TIES.weight must be at least 0, got -1.0"),
    ],
)
def test_a_value_out_of_range_is_named(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TIES(**arguments)  # type: ignore[arg-type]  # numbers, not names
