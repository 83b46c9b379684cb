"""The books of one optimizer step: answer tokens over all processes, summed losses, and whether they are finite."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn import Parameter

from lmmcl.agreement import anywhere
from lmmcl.data.batches.batch import Batch
from lmmcl.data.batches.joined import JOINED, JoinedRows
from lmmcl.data_parallel import sum_over_shares
from lmmcl.errors import UserError
from lmmcl.mitigation import Mitigation
from lmmcl.weights import holds_first, local


class JoinedSets:
    """What joins the rows of a task, and whose it is.

    Args:
        of: the sets of each mitigation, by its name.

    Attributes:
        sets: all of them, in order.
        owners: the mitigation of each.
    """

    def __init__(self, of: Mapping[str, Sequence[JoinedRows]]) -> None:
        self.sets = [one for sets in of.values() for one in sets]
        self.owners = [name for name, sets in of.items() for _ in sets]


class Window:
    """Adds up the loss terms of the micro-batches of one optimizer step, without waiting for the device.

    The loss is the mean over the answer tokens of the global batch: every term is a sum over tokens divided by N, the
    number of answer tokens in the window on all processes.
    """

    def __init__(self) -> None:
        self._tokens = torch.ones(())
        self._joined_tokens = torch.ones(0)
        self._sums: dict[str, Tensor] = {}
        self._first_bad_step: Tensor | None = None

    def begin(self, tokens: int, device: torch.device, joined: Sequence[int] = ()) -> None:
        """Starts a window; collective.

        Args:
            tokens: answer tokens that the loss counts, of this process in all micro-batches of the window.
            device: where losses live.
            joined: the answer tokens of each joined set, likewise.
        """
        self._sums = {}
        counted = _on([float(tokens), *map(float, joined)], device)
        sum_over_shares(counted)
        counted.clamp_(min=1.0)  # every sample of the window may have been dropped as too long
        self._tokens, self._joined_tokens = counted[0], counted[1:]

    def summed(
        self, values: Tensor, samples: Tensor, batch: Batch, sets: JoinedSets, owner: str | None = None
    ) -> Tensor:
        """The sum of a term over the tokens of a micro-batch that count in it, in units of the loss's mean.

        Tokens of the task and of taught sets count once. Those of another set count for its owner alone, and by N
        over the set's own answer tokens: divided by N as all is, its share of the term is a mean over the set.

        Args:
            values: (tokens,) the term at each token.
            samples: (tokens,) the sample of each.
            batch: the micro-batch.
            sets: what joins the task.
            owner: the mitigation whose term it is; None: the answer loss.
        """
        if all(one.taught for one in sets.sets):
            return values.sum()
        one, none = torch.ones_like(self._tokens), torch.zeros_like(self._tokens)
        factors = [one]
        for of, joined, tokens in zip(sets.owners, sets.sets, self._joined_tokens, strict=True):
            factors.append(one if joined.taught else self._tokens / tokens if of == owner else none)
        return (values * torch.stack(factors)[batch.extras[JOINED]][samples]).sum()

    def add(self, terms: Mapping[str, Tensor], shares: int, micro_batches: int) -> Tensor:
        """Takes the summed terms of a micro-batch and returns the loss whose gradient is their share of the mean.

        Lightning divides by the accumulated micro-batches, DDP and FSDP2 by the processes that have rows of their own:
        what is left is 1 / N.
        """
        for name, value in terms.items():
            held = self._sums.get(name)
            self._sums[name] = value.detach() if held is None else held + value.detach()
        return torch.stack(list(terms.values())).sum() * (shares * micro_batches / self._tokens)

    def means(self, penalties: Mapping[str, Tensor | None], sharded: bool, step: int) -> dict[str, Tensor]:
        """Every term per answer token of the global batch, with the penalties on top; collective.

        Args:
            penalties: values of the weight penalties on this process, the same ones on all; None: it has none.
            sharded: whether each process holds its own shards, so that penalties are to be summed over processes.
            step: optimizer step, from 1, noted if a term is not finite.
        """
        means = {name: value / self._tokens for name, value in self._sums.items()}
        if dist.is_initialized():
            means = _summed(means, sum_over_shares)
        apart = sharded and dist.is_initialized()
        for name, value in (_over_shards(penalties, self._tokens) if apart else _here(penalties)).items():
            means[name] = means[name] + value if name in means else value
        self.watch(torch.stack(list(means.values())).sum(), step)
        return means

    def watch(self, value: Tensor, step: int) -> None:
        """Notes, on the device, the first step at which a loss or a gradient norm is not finite.

        Args:
            value: the same on every process.
            step: optimizer step, from 1 as in the log.
        """
        none = torch.full((), -1, device=value.device)
        first = none if self._first_bad_step is None else self._first_bad_step
        bad = (first < 0) & ~torch.isfinite(value)
        self._first_bad_step = torch.where(bad, torch.full_like(first, step), first)

    def check_finite(self, task: str) -> None:
        """Ends the run if a loss or gradient was not finite, before anything of it is saved.

        Raises:
            UserError: names task and step.
        """
        if self._first_bad_step is not None and int(self._first_bad_step) >= 0:
            raise UserError(
                f"the loss or gradient of task {task} is not finite at optimizer step {int(self._first_bad_step)}. "
                "Lower model.lr (or the strength of a mitigation) and go on from the last checkpoint with --ckpt_path "
                "last, or look for a broken answer in the data."
            )


def _on(numbers: Sequence[float], device: torch.device) -> Tensor:
    """Numbers in fp32 on a device; the host, which is ahead of a GPU, does not wait for it."""
    held = torch.tensor(numbers, pin_memory=device.type == "cuda")
    return held.to(device, non_blocking=True)


def _summed(values: Mapping[str, Tensor], over: Callable[[Tensor], Any]) -> dict[str, Tensor]:
    if not values:
        return {}
    total = torch.stack(list(values.values()))
    over(total)
    return dict(zip(values, total, strict=True))


def _here(penalties: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
    return {name: value for name, value in penalties.items() if value is not None}


def _over_shards(penalties: Mapping[str, Tensor | None], like: Tensor) -> dict[str, Tensor]:
    """Sums over processes of the penalties that any of them has: one whose shards are empty may have none."""
    somewhere = anywhere([value is not None for value in penalties.values()])
    shares = {
        name: torch.zeros_like(like) if value is None else value.to(like)
        for (name, value), found in zip(penalties.items(), somewhere, strict=True)
        if found
    }
    return _summed(shares, dist.all_reduce)


def apply_weight_penalties(
    mitigations: Iterable[Mitigation], parameters: Mapping[str, Parameter]
) -> dict[str, Tensor | None]:
    """Adds the gradient of every weight penalty to the local shards.

    A penalty inside the loss would mix plain tensors and shards under FSDP2, and count once per micro-batch.

    Returns:
        each penalty's value on this process, by the mitigation's name: over shards, the sum over processes is its own.
        None where no parameter has one here.
    """
    values: dict[str, Tensor | None] = {}
    without = [one for one in parameters.values() if one.grad is None and isinstance(one, DTensor)]
    for mitigation in mitigations:
        if type(mitigation).weight_penalty is Mitigation.weight_penalty:
            continue
        values.setdefault(mitigation.name, None)
        for name, parameter in parameters.items():
            shard = local(parameter).detach().requires_grad_()
            with torch.enable_grad():
                penalty = mitigation.weight_penalty(name, shard)
            if penalty is None or not penalty.requires_grad:
                continue
            (gradient,) = torch.autograd.grad(penalty, shard)
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            local(parameter.grad).add_(gradient)
            # Copies of a shard, in a tensor-parallel group, are one part of the sum.
            copied = isinstance(parameter, DTensor) and not holds_first(parameter)
            value = torch.zeros_like(penalty) if copied else penalty.detach()
            held = values.get(mitigation.name)
            values[mitigation.name] = value if held is None else held + value
    # Whoever looks at gradients together must find one on every process, or on none.
    gained = anywhere([one.grad is not None for one in without]) if values else [False] * len(without)
    for parameter, somewhere in zip(without, gained, strict=True):
        if somewhere and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    return values
