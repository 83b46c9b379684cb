"""Meters what a sequence costs while it runs: seconds, samples, tokens, operations and memory of every phase."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lmmcl.agreement import agreed
from lmmcl.cost import CostLog, CostPhase, StageCost
from lmmcl.data.batches.batch import IGNORED, Batch
from lmmcl.data_parallel import sum_over_shares
from lmmcl.model import ContinualLMM
from lmmcl.position import Position, Stage
from lmmcl.structure.counted_forwards import positions_of, watch
from lmmcl.structure.flops import Flops
from lmmcl.structure.recomputed import parts_of

_BITS = 40
"""Operations are summed in two parts: more than 2^63 of them may lie between two checkpoints."""


@dataclass
class _Spent:
    seconds: float = 0.0
    samples: int = 0
    tokens: int = 0
    flops: int = 0
    memory: int = 0


class CostMeter:
    """Adds up what is spent and enters it in ``logs/cost.csv`` with every checkpoint, see `CostLog`.

    It looks at shapes in hooks of the whole model, its head and its vision tower, five calls a forward, and never
    waits for the device. So every forward counts, a teacher's, a canary's and a probe's too; of backwards, those of
    forwards that record a gradient. The first pass that looks for parameters without a gradient counts in the stage
    it opens, and not again in a resume.
    """

    def __init__(self) -> None:
        self._hooks: list[RemovableHandle] = []
        self._spent: dict[tuple[int, CostPhase], _Spent] = {}
        self._names: dict[int, str] = {}
        self._phase: tuple[int, CostPhase] = (0, "evaluate")
        self._mark = 0.0
        self._saved = ""
        self._seen: Tensor | None = None
        self._packed: Tensor | None = None
        self._flops: Flops | None = None
        self._counted: tuple[int, int] | None = None

    def begin(
        self, trainer: Trainer, module: ContinualLMM, folder: Path, position: Position, resumed: bool
    ) -> None:
        """Starts the clock: of a new run, or of one that goes on from the checkpoint at ``position``."""
        self.end()
        self._module = module
        tasks = [None, *module.data.tasks]
        self._names = {i: Stage(i, task, "").folder for i, task in enumerate(tasks)}
        self._log = CostLog(folder, trainer.is_global_zero)
        with agreed():
            self._log.begin(position.name if resumed else None)
        self._hooks = [
            *watch(
                module.model, module.anatomy, module.parameters_by_name(), self._flops_now, self._add_flops
            ),
            module.model.register_forward_pre_hook(self._answer, with_kwargs=True),
        ]
        self._spent, self._seen, self._packed, self._saved = {}, None, None, position.name
        self._phase, self._mark = self._phase_of(position), time.monotonic()
        self._memory()

    def end(self) -> None:
        """Stops looking."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def at(self, position: Position) -> None:
        """What follows belongs to this position."""
        if self._hooks:
            self._switch(self._phase_of(position))

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """What is done inside is evaluation, wherever the sequence stands; collective, and nothing outside of a fit.

        Answers that are kept are not made again after a kill. So what they cost is entered as soon as all are there,
        under the checkpoint that a resume would go on from; that of a measurement that is stopped inside is lost.
        """
        if not self._hooks:
            yield
            return
        before = self._phase
        self._switch((before[0], "evaluate"))
        try:
            yield
        except BaseException:
            self._switch(before)
            self._spent.pop((before[0], "evaluate"), None)
            raise
        self._switch(before)
        self._enter({key: one for key, one in self._spent.items() if key[1] == "evaluate"}, self._saved)

    def trained(self, batch: Batch) -> None:
        """Counts a micro-batch that was trained on; fillers, which have no answer, are no samples."""
        if batch.labels is not None:
            answered = batch.per_sample(batch.labels != IGNORED) > 0
            self._see(answered, batch.per_sample(batch.mask()))

    def save(self, position: Position) -> None:
        """Enters what was spent, before the checkpoint at ``position`` is written; collective."""
        self.at(position)
        self._saved = position.name
        self._enter(dict(self._spent), self._saved)

    def _enter(self, spent: dict[tuple[int, CostPhase], _Spent], until: str) -> None:
        entries = []
        for (stage, phase), mine in sorted(spent.items()):
            one = self._summed(mine)
            numbers = (round(one.seconds, 3), one.samples, one.tokens, one.flops, one.memory)
            entries.append(StageCost(stage, self._names[stage], phase, *numbers))
            del self._spent[stage, phase]
        with agreed():
            self._log.put(entries, until)

    @staticmethod
    def _phase_of(position: Position) -> tuple[int, CostPhase]:
        trains = position.stage > 0 and position.phase in ("train", "end")
        return position.stage, "train" if trains else "evaluate"

    def _switch(self, phase: tuple[int, CostPhase]) -> None:
        """Books what was spent since the last switch, and goes on under another phase."""
        now = time.monotonic()
        one = self._now()
        one.seconds += now - self._mark
        one.memory = max(one.memory, self._memory())
        if self._seen is not None:
            samples, tokens = (int(number) for number in self._seen.tolist())
            one.samples, one.tokens = one.samples + samples, one.tokens + tokens
        if self._packed is not None:
            high, low = (int(number) for number in self._packed.tolist())
            one.flops += (high << _BITS) + low
        self._seen, self._packed, self._mark, self._phase = None, None, now, phase

    def _now(self) -> _Spent:
        return self._spent.setdefault(self._phase, _Spent())

    def _see(self, samples: Tensor, tokens: Tensor) -> None:
        """Adds the samples that count, (samples,), and their tokens, (samples,), on the device."""
        seen = torch.stack([samples.sum(), (tokens * samples).sum()]).long()
        self._seen = seen if self._seen is None else self._seen + seen

    def _add_flops(self, number: int | Tensor) -> None:
        if isinstance(number, int):
            self._now().flops += number
            return
        parts = torch.stack([number >> _BITS, number & ((1 << _BITS) - 1)])
        self._packed = parts if self._packed is None else self._packed + parts

    def _answer(self, model: nn.Module, arguments: Any, inputs: dict[str, Any]) -> None:
        """Counts prompts that are answered, and the tokens of their answers; a cache tells a generation."""
        if self._phase[1] != "evaluate" or torch.is_grad_enabled() or not inputs.get("use_cache"):
            return
        samples, length, past = positions_of(inputs)
        if past:  # one more token of every answer, also of those that have ended
            self._now().tokens += samples * length
            return
        mask = inputs.get("attention_mask")
        if isinstance(mask, Tensor) and mask.dim() == 2:
            self._see(torch.ones_like(mask[:, 0]), mask.sum(1))
        else:
            self._now().samples += samples
            self._now().tokens += samples * length

    def _flops_now(self) -> Flops:
        """For what trains at present: the dry backward takes tensors out of it."""
        module = self._module
        state = (id(module.trained), len(module.trained))
        if self._flops is None or self._counted != state:
            parameters = module.parameters_by_name()
            recomputes = parts_of(module.hparams["activation_checkpointing"])
            self._flops = Flops(
                module.model, module.anatomy, parameters, set(module.trained), recomputes=recomputes
            )
            self._counted = state
        return self._flops

    def _memory(self) -> int:
        """Peak of this process since the last call (GPU) or since it began (CPU), in bytes."""
        device = self._module.device
        if device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(device)
            torch.cuda.reset_peak_memory_stats(device)
            return int(peak)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

    def _summed(self, one: _Spent) -> _Spent:
        """Over processes: the first one's clock, all samples, tokens and operations, the largest memory."""
        if not dist.is_initialized() or dist.get_world_size() == 1:
            return one
        device = self._module.device
        high, low = divmod(one.flops, 1 << _BITS)
        sums = torch.tensor([one.samples, one.tokens, high, low], device=device)
        memory = torch.tensor(one.memory, device=device)
        sum_over_shares(sums)
        dist.all_reduce(memory, op=dist.ReduceOp.MAX)
        samples, tokens, high, low = sums.tolist()
        return _Spent(one.seconds, samples, tokens, (high << _BITS) + low, int(memory))
