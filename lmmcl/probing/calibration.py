"""A few samples of a task, and what the model's gradient says on each of them alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from lmmcl.agreement import agreed
from lmmcl.data.batches.order import subset
from lmmcl.data.row import Row
from lmmcl.errors import UserError
from lmmcl.model import ContinualLMM
from lmmcl.outputs.token_outputs import TokenOutputs
from lmmcl.parallel.tensor_group import average_copies_
from lmmcl.weights import local


def draw_rows(module: ContinualLMM, rows: Sequence[Row], count: int, purpose: str) -> list[Row]:
    """A fixed draw without replacement that depends on seed, task and purpose, the same on every process.

    Args:
        module: in the middle of a task.
        rows: to draw from.
        count: how many; all rows where there are no more.
        purpose: what for, such as ``Fisher``.

    Returns:
        The drawn rows, in their order.
    """
    assert module.task is not None
    key = (module.hparams["seed"], module.task.name, purpose)
    return [rows[position] for position in subset([0] * len(rows), count, *key)]


def mean_over_samples(
    module: ContinualLMM,
    rows: Sequence[Row],
    scalar: Callable[[TokenOutputs], Tensor],
    elementwise: Callable[[Tensor], Tensor],
) -> dict[str, Tensor]:
    """Mean over samples of a function of each sample's own gradient; collective.

    No two gradients are added before the function sees them: the square of a batch's gradient is not the mean of the
    squares. Processes deal the rows among themselves, but for FSDP2, whose backward averages over them: there all
    take the same row, and the average is its gradient. Call it between two optimizer steps. The model is in eval
    mode meanwhile, and runs one forward and one backward per row.

    Args:
        module: with its trained set in place.
        rows: the same on every process; those that the collator drops as too long do not count.
        scalar: of one sample's outputs, differentiable, for example the summed loss of its answer.
        elementwise: applied to each gradient, for example ``torch.square``.

    Returns:
        by name of the trained parameter, sharded and shaped as it is.

    Raises:
        UserError: no row has an answer that fits.
    """
    parameters = module.trained_parameters()
    sharded = any(isinstance(parameter, DTensor) for parameter in parameters.values())
    dealt = dist.is_initialized() and not sharded
    mine = rows[dist.get_rank() :: dist.get_world_size()] if dealt else rows
    sums = {name: torch.zeros_like(parameter, requires_grad=False) for name, parameter in parameters.items()}
    counted = torch.zeros((), device=module.device)
    module.model.eval()
    with agreed() if dealt else nullcontext():
        for row in mine:
            batch = module.data.collator.train([row]).to(module.device)
            with module.autocast():
                outputs = module.token_outputs(batch)
                value = scalar(outputs)
            value.backward()
            counted += len(outputs) > 0
            for name, parameter in parameters.items():
                if parameter.grad is not None:
                    local(sums[name]).add_(elementwise(local(parameter.grad)))
                parameter.grad = None
    module.model.train()
    if dealt:
        for total in (*sums.values(), counted):
            dist.all_reduce(total)
    if not counted:
        raise UserError("data: none of the rows to measure gradients on has an answer that fits the model.")
    for total in sums.values():
        local(total).div_(counted)
    average_copies_(sums.values())
    return sums
