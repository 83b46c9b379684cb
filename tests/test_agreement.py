"""What one process cannot do alone is one error on all of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from lmmcl import checkpoint
from lmmcl.agreement import agree, agreed
from lmmcl.errors import UserError


def fails(error: Exception | None) -> None:
    with agreed():
        if error is not None:
            raise error


def test_alone_an_error_stays_what_it_is() -> None:
    agree(None)
    fails(None)
    error = KeyError("x")
    with pytest.raises(KeyError) as raised:
        fails(error)
    assert raised.value is error


def full_disk(path: Path, tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    raise UserError(f"{path}: no room left")


def rank_main(rank: int, meet: str) -> None:
    dist.init_process_group("gloo", init_method=meet, rank=rank, world_size=3)
    fails(None)
    # The lowest process's words, on all; what the others had is the reason given there.
    for failing in ((1,), (1, 2), (0, 2)):
        own = UserError(f"run: process {rank} has no room left") if rank in failing else None
        with pytest.raises(UserError, match=f"^run: process {failing[0]} has no room left$") as raised:
            fails(own)
        assert raised.value.__cause__ is own
    # A mistake of ours keeps its kind and its traceback where it happened.
    bug = KeyError("x") if rank == 2 else None
    with pytest.raises(KeyError if rank == 2 else RuntimeError) as odd:
        fails(bug)
    assert odd.value is bug or str(odd.value) == "process 2 failed with KeyError: 'x'"
    # One process cannot write its part of a checkpoint: no process waits for it, and none takes it for whole.
    folder = Path(meet.removeprefix("file://")).parent / "last"
    if rank == 1:
        checkpoint.write_tensors = full_disk
    with pytest.raises(UserError, match="no room left"):
        checkpoint.save(folder, {"a": torch.zeros(2)}, {})
    assert not checkpoint.Checkpoint(folder).finished
    dist.barrier()  # nobody is left behind in an earlier collective
    dist.destroy_process_group()


@pytest.mark.slow
def test_an_error_of_one_process_is_raised_on_all(tmp_path: Path) -> None:
    spawn(rank_main, (f"file://{tmp_path}/meet",), 3)
