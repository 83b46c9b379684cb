"""What the processes of an evaluation tell each other; all but `world` is to be called on every one of them."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist

from lmmcl.data_parallel import data_group, share


def world() -> tuple[int, int]:
    """Rank and number of processes; rows are dealt by `lmmcl.data_parallel.share`."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def anyone(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set on any process: one that stops alone would leave the others waiting."""
    if world()[1] == 1:
        return flag
    shared = torch.tensor(int(flag), device=device)
    dist.all_reduce(shared, op=dist.ReduceOp.MAX)
    return bool(shared.item())


def from_first(value: Any) -> Any:
    """Rank zero's value, on every process."""
    if world()[1] == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def from_all(value: list[Any]) -> list[Any]:
    """The lists of all shares of the rows in one."""
    count = share()[1]
    if count == 1:
        return value
    boxes: list[Any] = [None] * count
    dist.all_gather_object(boxes, value, group=data_group())
    return [item for box in boxes for item in box]


def in_order(found: Sequence[tuple[int, Any]], n: int) -> list[Any]:
    """What the processes found for ``n`` rows, each once, in the order of the rows and the same on every process."""
    everything = sorted(from_all(list(found)), key=lambda pair: pair[0])
    if [i for i, _ in everything] != list(range(n)):
        raise RuntimeError(f"{n} rows gave {len(everything)} answers over {world()[1]} processes")
    return [value for _, value in everything]
