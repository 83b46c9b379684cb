"""Task arithmetic along a sequence is WiSE-FT seen from the other side."""

from pathlib import Path

import pytest
import torch

from lmmcl.callbacks import TaskArithmetic
from lmmcl.errors import UserError
from lmmcl.weights import mix_
from tests.callbacks.stage_changes import watched


def test_adding_a_share_of_every_task_vector_is_wise_ft_with_the_other_share(
    tiny: Path, tmp_path: Path
) -> None:
    watch = watched(tiny, tmp_path / "run", TaskArithmetic(0.75, measure_before=False))
    base = watch.starts[0]
    for start, end, after in zip(watch.starts, watch.ends, watch.afters, strict=True):
        mix_(end, start, alpha=0.25)
        assert all(torch.equal(after[name], value) for name, value in end.items())
    # What the third task trains again, the first did: the sum of their vectors, each counted once.
    third = {name: watch.afters[2][name] for name in base}
    changes = {name: (third[name] - base[name]) / 0.75 for name in base}
    first = {name: (watch.afters[0][name] - base[name]) / 0.75 for name in base}
    last = {name: (watch.afters[2][name] - watch.starts[2][name]) / 0.75 for name in base}
    for name, change in changes.items():
        torch.testing.assert_close(change, first[name] + last[name], rtol=1e-3, atol=1e-5)


def test_a_weight_below_zero_is_named() -> None:
    with pytest.raises(UserError, match=r"TaskArithmetic.weight must be at least 0, got -0.5"):
        TaskArithmetic(weight=-0.5)
