"""Law 4: the rows of the table in laws.py end on DDP and on FSDP2 as they do on one process, killed and resumed."""

from pathlib import Path

import pytest

from lmmcl.run.run_folder import RunFolder
from lmmcl.sequence.resume import BASE
from tests.callbacks.laws import (
    ROUNDING,
    ROWS,
    STAGES,
    Row,
    apart,
    law_base,
    law_fit,
    law_weights,
    rows_on,
)
from tests.torchrun import torchrun


@pytest.fixture(scope="module")
def out(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every row on one process."""
    out = tmp_path_factory.mktemp("laws")
    for row in ROWS:
        law_fit(tiny, out / row.label, [row.make(row.at_work)])
    return out


@pytest.fixture(scope="module")
def ddp(tiny: Path, out: Path) -> str:
    """Rows of every kind on two processes, in one spawn."""
    return spawned("ddp", tiny, out)


@pytest.fixture(scope="module")
def fsdp2(tiny: Path, out: Path) -> str:
    """Every row on two processes, in one spawn."""
    return spawned("fsdp2", tiny, out)


def spawned(strategy: str, checkpoint: Path, out: Path) -> str:
    torchrun(2, "-m", "tests.callbacks.laws", strategy, checkpoint, out)
    return strategy


CASES = [
    pytest.param(strategy, row, id=f"{strategy}-{row.label}")
    for strategy in ("ddp", "fsdp2")
    for row in rows_on(strategy)
]


@pytest.mark.timeout(480)
@pytest.mark.parametrize(("strategy", "row"), CASES)
def test_two_processes_end_with_the_weights_of_one(
    strategy: str, row: Row, tiny: Path, out: Path, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(strategy)
    base = law_base(tiny, row)
    mine, other = law_weights(out / f"{strategy}-{row.label}"), law_weights(out / row.label)
    for stage in STAGES:
        assert apart(mine[stage], other[stage], base) < ROUNDING, stage


@pytest.mark.timeout(480)
@pytest.mark.parametrize(("strategy", "row"), CASES)
def test_two_processes_begin_with_the_bytes_of_one(
    strategy: str, row: Row, out: Path, request: pytest.FixtureRequest
) -> None:
    """Also with adapters, whose first values are drawn: under FSDP2 the first process draws them for all."""
    request.getfixturevalue(strategy)
    mine, other = (RunFolder(out / run).checksums(BASE) for run in (f"{strategy}-{row.label}", row.label))
    assert mine == other
