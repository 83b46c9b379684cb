"""What one process cannot do alone is one error on all of them."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from torch.multiprocessing.spawn import spawn

from lmmcl.agreement import agree, agreed, most
from lmmcl.errors import UserError
from lmmcl.run import saver as saver_module
from lmmcl.run.checkpoint import Checkpoint, TensorFile
from lmmcl.run.saver import Saver
from lmmcl.weights import local


def fails(error: Exception | None) -> None:
    with agreed():
        if error is not None:
            raise error


def test_alone_an_error_stays_what_it_is() -> None:
    agree(None)
    assert most(3) == 3
    fails(None)
    error = KeyError("x")
    with pytest.raises(KeyError) as raised:
        fails(error)
    assert raised.value is error


def full_disk(self: TensorFile, path: Path) -> dict[str, Any]:
    raise UserError(f"{path}: no room left")


def saves(folder: Path, rank: int) -> None:
    """Checkpoints of three processes: each writes its shards, and one that cannot stops all of them."""
    mesh = init_device_mesh("cpu", (3,))
    whole = torch.arange(35.0).reshape(7, 5)
    tensors = {"sharded": distribute_tensor(whole, mesh, [Shard(0)]), "replicated": torch.ones(2)}
    saver, write = Saver(), TensorFile.write
    saver.start(folder / "1", tensors, {"step": 1})
    local(tensors["sharded"]).zero_()
    saver.wait()
    checkpoint = Checkpoint(folder / "1")
    checkpoint.verify()
    assert torch.equal(checkpoint.reader().read("sharded"), whole)
    assert sorted(path.name for path in checkpoint.path.iterdir()) == [
        "manifest.json",
        *(f"process-{number:05d}.safetensors" for number in range(3)),
    ]
    dist.barrier()
    if rank == 1:
        TensorFile.write = full_disk  # type: ignore[method-assign]
    saver.start(folder / "2", tensors, {"step": 2})
    with pytest.raises(UserError, match="no room left"):
        saver.wait()
    TensorFile.write = write  # type: ignore[method-assign]
    assert not saver.failed and not Checkpoint(folder / "2").finished
    saver.close()
    dist.barrier()
    # One that is gone is not waited for.
    saver_of_two = Saver()
    if rank == 2:
        TensorFile.write = full_disk  # type: ignore[method-assign]
    saver_of_two.start(folder / "3", tensors, {"step": 3})
    with pytest.warns(UserWarning, match="was not written") if rank != 1 else nullcontext():
        saver_of_two.close()
    assert not Checkpoint(folder / "3").finished


def rank_main(rank: int, meet: str) -> None:
    dist.init_process_group("gloo", init_method=meet, rank=rank, world_size=3)
    fails(None)
    assert most(2 * rank) == 4
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
    saver_module._GRACE_SECONDS = 1.0
    saves(Path(meet.removeprefix("file://")).parent / "last", rank)
    dist.barrier()  # nobody is left behind in an earlier collective
    dist.destroy_process_group()


@pytest.mark.slow
def test_an_error_of_one_process_is_raised_on_all(tmp_path: Path) -> None:
    spawn(rank_main, (f"file://{tmp_path}/meet",), 3)
