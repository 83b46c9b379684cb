"""What holds for every test: one thread a process, no network, no window."""

import os

# Before torch is imported, and for every process that a test starts: two test processes share two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "agg"

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lmmcl.callbacks import held_out_evaluation
from lmmcl.data.row import Row
from lmmcl.world.tasks import WorldRows
from tests.tiny import tiny_checkpoint
from tests.tiny_run import TinyRun, tiny_run


def pytest_collection_finish() -> None:
    """Torch, transformers and five thousand tests stay: the garbage collector need not look at them ever again."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def caches(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What lmmcl keeps between runs, it keeps for this session only."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("caches"))


@pytest.fixture(scope="session", autouse=True)
def no_wait_for_the_disk() -> Iterator[None]:
    """No test cuts the power: what a killed process wrote is there without ``fsync``, hundreds of them in a run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def drawn_once() -> Iterator[None]:
    """Rows of the picture world are drawn once a session: most runs measure the same. tests/world draws anew."""
    draw, drawn = WorldRows.make, dict[Any, Row]()

    def row(rows: WorldRows, index: int) -> Row:
        if rows._name == "general":  # whose functions are new each time
            return draw(rows, index)
        key = (rows._name, rows._draw, rows._ask, rows._split, rows._size, rows._seed, index)
        if key not in drawn:
            drawn[key] = draw(rows, index)
        return drawn[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WorldRows, "make", row)
        yield


@pytest.fixture(scope="module")
def no_report() -> Iterator[None]:
    """Runs end without summary and report, whose drawing takes longer than a tiny run: for tests that read neither."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(held_out_evaluation, "write_artefacts", lambda run: None)
        yield


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint."""
    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture(scope="session")
def finished(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    """A run of ``lmmcl fit`` from beginning to end; tests read it and leave it as it is."""
    run = tiny_run(tmp_path_factory.mktemp("finished"), tiny)
    assert run.code == 0, run.errors
    return run
