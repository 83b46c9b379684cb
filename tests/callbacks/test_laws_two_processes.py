"""Law 4: every row of the table in laws.py ends on DDP and on FSDP2 as it does on one process, killed and resumed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lmmcl.resume import BASE
from lmmcl.run.run_folder import RunFolder
from tests.callbacks.laws import ROUNDING, ROWS, STAGES, Row, apart, law_base, law_fit, law_weights
from tests.tiny import tiny_checkpoint


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every row on one process."""
    out = tmp_path_factory.mktemp("laws")
    checkpoint = tiny_checkpoint(out / "tiny")
    for row in ROWS:
        law_fit(checkpoint, out / row.label, [row.make(row.at_work)])
    return out


@pytest.fixture(scope="module", params=["ddp", "fsdp2"])
def strategy(request: pytest.FixtureRequest, out: Path) -> str:
    """Every row on two processes, in one spawn."""
    strategy = str(request.param)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(  # its words are shown below if it failed
        [*torchrun, "-m", "tests.callbacks.laws", strategy, str(out / "tiny"), str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=420,
        check=False,
    )
    assert done.returncode == 0, done.stderr  # whole: what failed first stands above the launcher's own words
    return strategy


@pytest.mark.timeout(480)
@pytest.mark.parametrize("row", ROWS, ids=[row.label for row in ROWS])
def test_two_processes_end_with_the_weights_of_one(row: Row, strategy: str, out: Path) -> None:
    base = law_base(out / "tiny", row)
    mine, other = law_weights(out / f"{strategy}-{row.label}"), law_weights(out / row.label)
    for stage in STAGES:
        assert apart(mine[stage], other[stage], base) < ROUNDING, stage


@pytest.mark.parametrize("row", ROWS, ids=[row.label for row in ROWS])
def test_two_processes_begin_with_the_bytes_of_one(row: Row, strategy: str, out: Path) -> None:
    """Also with adapters, whose first values are drawn: under FSDP2 the first process draws them for all."""
    mine, other = (RunFolder(out / run).checksums(BASE) for run in (f"{strategy}-{row.label}", row.label))
    assert mine == other
