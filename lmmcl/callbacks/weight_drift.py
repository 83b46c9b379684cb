"""How far each group of weights moved since the base model, and in how many directions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from lightning.pytorch import Trainer
from torch import Tensor
from torch.distributed.tensor import DTensor
from typing_extensions import override

from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.mitigation import Copy, StageCallback
from lmmcl.model import ContinualLMM
from lmmcl.probing.probe import Reading, ever_changed
from lmmcl.weights import holds_first, local, snapshot, whole

_ROWS_AT_ONCE = 8192
_ELEMENTS_AT_ONCE = 1 << 24
RANKS = ("numerical rank", "stable rank", "entropy rank")


@dataclass(frozen=True)
class Ranks:
    """Three ranks of a matrix; all 0 for the zero matrix.

    Args:
        numerical: singular values above what rounding may have made.
        stable: ‖Δ‖_F² / ‖Δ‖₂² (Rudelson and Vershynin, 2007).
        entropy: exp of the entropy of the singular values as shares of their sum, the effective rank of Roy and
            Vetterli, 2007.
    """

    numerical: int
    stable: float
    entropy: float


def ranks(singular: Tensor, noise: float) -> Ranks:
    """Ranks from singular values.

    Args:
        singular: (n,) singular values, from 0.
        noise: those up to it count as rounding.
    """
    singular = singular.double().cpu()
    largest = float(singular.max()) if len(singular) else 0.0
    if largest <= noise:
        return Ranks(0, 0.0, 0.0)
    share = singular / singular.sum()
    share = share[share > 0]
    return Ranks(
        numerical=int((singular > noise).sum()),
        stable=float(singular.square().sum() / largest**2),
        entropy=float((-(share * share.log()).sum()).exp()),
    )


def change_ranks(base: Tensor, present: Tensor) -> Ranks:
    """Ranks of the change of a matrix, by the spectrum of the smaller of its two Gram matrices in fp64.

    Weights of the precision ε are the change they should have with an error of up to ε |θ| per entry, whose norm is at
    most ε ‖θ‖_F: by Weyl's inequality no singular value above that can be rounding. Squaring costs half of fp64's
    digits; as many are left as fp32 has.

    Args:
        base: (m, n).
        present: (m, n).
    """
    tall = base.shape[0] >= base.shape[1]
    pairs = zip(*((t if tall else t.T).split(_ROWS_AT_ONCE) for t in (base, present)), strict=True)
    gram, scale = torch.zeros((), dtype=torch.float64), 0.0
    for before, now in ((_exact(one), _exact(other)) for one, other in pairs):
        gram = gram.to(now.device) + (now - before).T @ (now - before)
        scale += max(float(before.square().sum()), float(now.square().sum()))
    singular = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    rounding = torch.finfo(present.dtype).eps * math.sqrt(scale)
    # The fp64 error of the Gram matrix, as a singular value: sqrt(n ε) s₁.
    squared = math.sqrt(max(base.shape) * torch.finfo(torch.float64).eps) * float(singular.max())
    return ranks(singular, max(rounding, squared))


def squares(base: Tensor, present: Tensor) -> Tensor:
    """‖θ − θ₀‖² and ‖θ₀‖², summed in fp64 over blocks, (2,) on the CPU."""
    blocks = zip(*(t.flatten().split(_ELEMENTS_AT_ONCE) for t in (base, present)), strict=True)
    found = torch.zeros(2, dtype=torch.float64)
    for before, now in ((_exact(one), _exact(other)) for one, other in blocks):
        found += torch.stack([(now - before).square().sum(), before.square().sum()]).cpu()
    return found


def _exact(tensor: Tensor) -> Tensor:
    """In fp64, which an Apple GPU does not have."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


def spread(names: Sequence[str], count: int) -> list[str]:
    """So many of the names, evenly spread from the first to the last."""
    if len(names) <= count:
        return list(names)
    last = len(names) - 1
    return [names[round(i * last / (count - 1))] for i in range(count)] if count > 1 else [names[last // 2]]


class WeightDrift(StageCallback):
    """Measures after every stage how far each group of what trains is from the base model, and the rank of the change.

    Per group of the anatomy the relative Frobenius norm ‖θ − θ₀‖ / ‖θ₀‖ over all of its tensors that any task trained
    so far, and the mean numerical, stable and entropy rank of the change over some of its matrices.

    There is no second model: θ₀ are copies of what trains, taken as it first trains: one copy of all that was trained
    so far in memory, in fp32 as it trains and sharded as the model is, and nothing on disk (a reference to stage 0).
    Adapters count once they are merged into the weights; those that stay beside them (LoRA's ``keep``, OLoRA, MoELoRA,
    the copies of MoE) are not seen, and the groups that read 0 for it are named in a notice and in the log's
    description. Norms cost nothing. A spectrum costs two products of m × n × min(m, n) and one decomposition of a
    square of the smaller side, in fp64: so it is taken of ``matrices`` per group, spread evenly over the depth, and
    never of one whose smaller side is above ``largest`` (a notice says of which group nothing is left). On FSDP2 one
    matrix at a time is gathered, and the result is that of one process to rounding.

    Written to ``probes/WeightDrift.jsonl`` and ``probes/WeightDrift rank.jsonl``.

    Args:
        matrices: of each group whose rank is taken, from 0; 0 takes none.
        largest: smaller side of the largest matrix whose rank is taken, from 1.
        name: of its logs and state.

    Raises:
        UserError: a value is out of its range.
    """

    def __init__(self, matrices: int = 4, largest: int = 8192, name: str | None = None) -> None:
        super().__init__(name)
        for key, value, least in (("matrices", matrices, 0), ("largest", largest, 1)):
            if value < least:
                raise UserError(
                    f"trainer.callbacks: WeightDrift.{key} must be at least {least}, got {value}."
                )
        self.matrices = matrices
        self.largest = largest
        self._said: set[str] = set()

    @override
    def copies(self) -> Sequence[Copy]:
        return [Copy("so far", in_stage=True)]

    @override
    def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        fresh = (ever_changed(module).keys() & module.may_change()) - self.tensors.keys()
        self.tensors |= snapshot(module.parameters_by_name(list(fresh)))

    @override
    def on_stage_end(
        self, trainer: Trainer, module: ContinualLMM, task: Task | None, scores: Mapping[str, float]
    ) -> None:
        groups = self._groups(module)
        drift = {group: self._drift(module, names) for group, names in groups.items()}
        kind = type(self).__name__
        unseen = self._unseen(module, drift)
        about = (
            f"Relative Frobenius norm ‖θ − θ₀‖ / ‖θ₀‖ of what trains, by group; θ₀ is the base model.{unseen}"
        )
        Reading(self.name, kind, "Weight drift", "relative Frobenius norm", about).put(
            trainer, module, "stage", drift
        )
        found = {group: self._ranks(module, group, names) for group, names in groups.items()}
        values = {f"{group} {name}": value for group, mean in found.items() for name, value in mean.items()}
        if values:
            about = f"Rank of θ − θ₀, mean over matrices of a group; θ₀ is the base model.{unseen}"
            Reading(f"{self.name} rank", kind, "Rank of the weights' change", "rank", about).put(
                trainer, module, "stage", values
            )

    def _groups(self, module: ContinualLMM) -> dict[str, list[str]]:
        """All that any task may change, by group, in model order."""
        groups: dict[str, list[str]] = {}
        for name, group in ever_changed(module).items():
            groups.setdefault(group, []).append(name)
        return groups

    def _unseen(self, module: ContinualLMM, drift: Mapping[str, float]) -> str:
        """Says which groups read 0 although a task trained adapters or experts beside them; empty: none does."""
        replaced: set[str] = set()
        for task in module.data.tasks[: module.sequence.position.stage]:
            chosen = module.recipe_of(task).resolve(module.anatomy)
            replaced |= {
                module.anatomy.group_of(name) for name in chosen.keys() - module.trained_by(task).keys()
            }
        groups = sorted(group for group, moved in drift.items() if group in replaced and not moved)
        if not groups:
            return ""
        text = f"Adapters or experts beside {', '.join(groups)} are not seen: there it reads 0."
        if text not in self._said:
            self._said.add(text)
            module.sequence.report_notice(f"{self.name}: {text}")
        return f" {text}"

    def _drift(self, module: ContinualLMM, names: Sequence[str]) -> float:
        """‖θ − θ₀‖ / ‖θ₀‖ over the tensors of a group; collective."""
        sums = {False: torch.zeros(2, dtype=torch.float64), True: torch.zeros(2, dtype=torch.float64)}
        for name, parameter in module.parameters_by_name(names).items():
            present = local(parameter.detach())
            base = local(self.tensors[name]) if name in self.tensors else present
            if not isinstance(parameter, DTensor):
                sums[False] += squares(base, present)
            elif holds_first(parameter):
                sums[True] += squares(base, present)
        shards = sums[True]
        if dist.is_initialized():  # without shards a sum of zeros
            shards = shards.to(module.device)
            dist.all_reduce(shards)
        moved, still = (sums[False] + shards.cpu()).tolist()
        return math.sqrt(moved / still) if still else (math.inf if moved else 0.0)

    def _ranks(self, module: ContinualLMM, group: str, names: Sequence[str]) -> dict[str, float]:
        """Mean ranks of some matrices of a group; nothing where it has none that may be looked at."""
        parameters = module.parameters_by_name(names)
        matrices = [name for name in names if parameters[name].dim() >= 2]
        small = [name for name in matrices if _smaller_side(parameters[name]) <= self.largest]
        if self.matrices and matrices and not small and group not in self._said:
            self._said.add(group)
            module.sequence.report_notice(
                f"{self.name} takes no rank of {group}: its matrices are larger than {self.largest}."
            )
        found = [
            change_ranks(_whole(self.tensors[name]), _whole(parameters[name].detach()))
            if name in self.tensors
            else Ranks(0, 0.0, 0.0)
            for name in (spread(small, self.matrices) if self.matrices else [])
        ]
        if not found:
            return {}
        means = (sum(getattr(one, rank.partition(" ")[0]) for one in found) / len(found) for rank in RANKS)
        return dict(zip(RANKS, means, strict=True))


def _whole(tensor: Tensor) -> Tensor:
    """A whole matrix; further dimensions are laid in a row."""
    return whole(tensor).flatten(1)


def _smaller_side(parameter: Tensor) -> int:
    return min(parameter.shape[0], math.prod(parameter.shape[1:]))
