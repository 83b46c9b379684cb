"""One word for all processes: one that fails, or stops, alone would be waited for in the next collective."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
import torch.distributed as dist

from lmmcl.errors import UserError


def agree(error: Exception | None) -> None:
    """Raises on every process if any of them has an error; a collective.

    Args:
        error: this process's, None if all went well here.

    Raises:
        UserError: that of the lowest process that has an error, the same on all of them.
        RuntimeError: it was another kind of error; the process itself raises the error it had.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        if error is not None:
            raise error
        return
    mine = (
        None
        if error is None
        else (isinstance(error, UserError), f"{type(error).__name__}: {error}", str(error))
    )
    said: list[tuple[bool, str, str] | None] = [None] * dist.get_world_size()
    dist.all_gather_object(said, mine)
    failed = next((rank for rank, one in enumerate(said) if one is not None), None)
    if failed is None:
        return
    first = said[failed]
    assert first is not None
    of_user, described, text = first
    if of_user:
        raise UserError(text) from error
    if error is not None:
        raise error
    raise RuntimeError(f"process {failed} failed with {described}")


@contextmanager
def agreed() -> Iterator[None]:
    """A block that all processes leave together, as from a barrier: an error of one is raised on all (see `agree`).

    Nothing in the block may wait for another process, and no process may leave it by ``return``.
    """
    error: Exception | None = None
    try:
        yield
    except Exception as failure:  # noqa: BLE001 - raised on every process, just below
        error = failure
    agree(error)


def most(count: int) -> int:
    """The largest of all processes' numbers; a collective of the hosts, which waits for no device."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return count
    largest = torch.tensor(count)
    dist.all_reduce(largest, op=dist.ReduceOp.MAX, group=_hosts(dist.group.WORLD))
    return int(largest)


def anywhere(said: Sequence[bool]) -> list[bool]:
    """Each of some statements, true where it is on any process; as many on all of them. As `most`, of the hosts."""
    if not said or not dist.is_initialized() or dist.get_world_size() == 1:
        return list(said)
    flags = torch.tensor(said, dtype=torch.uint8)
    dist.all_reduce(flags, op=dist.ReduceOp.MAX, group=_hosts(dist.group.WORLD))
    return [bool(flag) for flag in flags.tolist()]


@cache
def _hosts(world: Any) -> Any:
    """A group in which processes speak to each other beside their devices; made once for a world of processes."""
    return world if dist.get_backend(world) == "gloo" else dist.new_group(backend="gloo")
