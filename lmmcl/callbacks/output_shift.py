"""How far the next-token distributions of held-out answers moved, and how much of it is a mere bias of the output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.nn import functional
from transformers import LogitsProcessor
from typing_extensions import override

from lmmcl.data.row import Row
from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.evaluation.token_classes import token_partition
from lmmcl.mitigation import StageCallback
from lmmcl.model import ContinualLMM
from lmmcl.outputs.shift import CorrectedLogits, returned, shift_by_class
from lmmcl.probing.probe import Asked, Reading, answer_batches, answered, head_weights, held_out_rows
from lmmcl.structure.widths import Widths

_HEAD, _HIDDEN, _MEAN = "head/", "hidden", "mean_log_probabilities"
_TITLES = {
    "": "total variation",
    "KL": "KL divergence",
    "loss": "loss of gold answers",
    "answers": "greedy answers",
    "recovered": "share that comes back",
}


class OutputShift(StageCallback):
    """Compares the base's and the present next-token distributions on held-out prompts, and takes the bias out of them.

    Gold answers to ``dev`` rows of the held-out tasks are read teacher-forced, their first tokens, after every stage:
    total variation and KL(base ‖ present), mean over tokens, split into numbers, option letters, yes/no and the rest.

    The causal check of "forgetting is largely a shift of the output distribution" (arXiv 2510.08564): of each task's
    rows every other one only calibrates. Over the answer tokens t of these C rows, with p the base's and q the present
    distribution, the marginal bias is b_v = (1/|C|) Σ_t [log p_t(v) − log q_t(v)], one number per word v. On the other
    rows the present model is scored again with logits z + b: the loss of the gold answers, and greedy answers with b
    added at every step. What comes back is (present − corrected) / (present − base); nan where no more was lost than
    its standard error over the rows. A head whose bias alone was changed is repaired whole: there log q_t = log p_t +
    c − Z_t, so b is −c and a constant.

    It costs a forward over the rows per stage, and two greedy answers to each scored row; beside the hundreds of
    answers of every measured task that is little. It keeps in its state, and so in every checkpoint, the base model's
    mean log-probabilities (4 bytes a word) and its hidden states at the scored tokens (tokens × width: 3.7 MB for 64
    rows of a 7B model in bf16), from which the head makes the base's logits again; where a task trains the head, a copy
    of the head, too (as a reference to stage 0: no bytes on disk).

    Written to ``probes/OutputShift.jsonl`` (total variation), and beside it ``... KL``, ``... loss``, ``... answers``
    and ``... recovered``.

    Args:
        samples: held-out ``dev`` rows, from 2, dealt over the tasks; one half calibrates, the other is scored.
        answer_tokens: of each gold answer so many tokens count, from the first; from 1.
        answers: also answer the scored rows with and without the correction.
        batch_size: rows in a forward, from 1.
        name: of its logs and state.

    Raises:
        UserError: a value is out of its range.
    """

    def __init__(
        self,
        samples: int = 128,
        answer_tokens: int = 8,
        answers: bool = True,
        batch_size: int = 16,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        for key, value, least in (
            ("samples", samples, 2),
            ("answer_tokens", answer_tokens, 1),
            ("batch_size", batch_size, 1),
        ):
            if value < least:
                raise UserError(
                    f"trainer.callbacks: OutputShift.{key} must be at least {least}, got {value}."
                )
        self.samples = samples
        self.answer_tokens = answer_tokens
        self.answers = answers
        self.batch_size = batch_size
        self._base_scores: list[float] | None = None
        self._halves: tuple[list[Asked], list[Asked]] | None = None

    @override
    def state_bytes(self, widths: Widths, on_disk: bool = False) -> int:
        hidden = (self.samples // 2) * self.answer_tokens * widths.hidden * widths.each
        return 4 * widths.vocabulary + hidden + 4 * widths.head * (not on_disk)

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"base_scores": self._base_scores}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._base_scores = state_dict["base_scores"]

    @override
    def on_stage_end(
        self, trainer: Trainer, module: ContinualLMM, task: Task | None, scores: Mapping[str, float]
    ) -> None:
        calibrating, scored = self.halves(module)
        if not calibrating or not scored:
            return
        if task is None:
            self._remember(module)
        correction = self.tensors[_MEAN] - self._mean(module)
        values, by_row = self.read(module, correction)
        loss = {name: values.pop(name) for name in by_row}
        recovered = {"loss": returned(**by_row)}
        rows = f"{len(scored)} dev rows of the held-out tasks, a sample of its own beside the matrix's"
        about = f"Loss of the gold answers to {rows}."
        self._put(trainer, module, "loss", "nats per token", about, loss)
        if self.answers:
            said = {
                "present": self._score(module),
                "corrected": self._score(module, [CorrectedLogits(correction)]),
            }
            if task is None:
                self._base_scores = said["present"]
            assert self._base_scores is not None
            said["base"] = self._base_scores
            recovered["score"] = returned(**{name: -torch.tensor(rows) for name, rows in said.items()})
            points = {name: sum(rows) / len(rows) for name, rows in said.items()}
            self._put(trainer, module, "answers", "points", about, points)
        about = f"Share of what was lost that comes back without the output's marginal bias, on {rows}."
        self._put(trainer, module, "recovered", "share", about, recovered)
        for kind, unit, what in (
            (
                "TV",
                "total variation",
                "Total variation between the base's and the present next-token distribution",
            ),
            ("KL", "nats", "KL divergence of the base's next-token distribution from the present one"),
        ):
            parts = {name.removeprefix(f"{kind} "): v for name, v in values.items() if name.startswith(kind)}
            about = f"{what}, mean over the first tokens of gold answers to {rows}; the parts add up to all."
            self._put(
                trainer,
                module,
                "" if kind == "TV" else kind,
                unit,
                about,
                {"all": sum(parts.values()), **parts},
            )

    def _put(
        self,
        trainer: Trainer,
        module: ContinualLMM,
        log: str,
        unit: str,
        about: str,
        values: Mapping[str, float],
    ) -> None:
        name, title = f"{self.name} {log}".strip(), f"Output shift: {_TITLES[log]}"
        Reading(name, type(self).__name__, title, unit, about).put(trainer, module, "stage", values)

    def halves(self, module: ContinualLMM) -> tuple[list[Asked], list[Asked]]:
        """The rows that calibrate and those that are scored: every other one of each task."""
        if self._halves is None:
            halves: tuple[list[Asked], list[Asked]] = ([], [])
            met: dict[str, int] = {}
            for task, row in held_out_rows(module, self.samples, self.name):
                met[task.name] = met.get(task.name, -1) + 1
                halves[met[task.name] % 2].append((task, row))
            if halves[0] and not halves[1]:
                module.sequence.report_notice(
                    f"{self.name} is off: no held-out task has two dev rows, one to calibrate and one to score."
                )
            self._halves = halves
        return self._halves

    def _remember(self, module: ContinualLMM) -> None:
        """Keeps what is needed of the base model, which is in memory at stage 0."""
        self.tensors = {f"{_HEAD}{name}": tensor for name, tensor in head_weights(module).items()}
        self.tensors[_MEAN] = self._mean(module)
        hidden: list[Tensor] = []
        with module.inference(gather=False):
            for batch in self._batches(module, 1):
                hidden += [module.token_outputs(batch).hidden]
            module.free_gathered()
        self.tensors[_HIDDEN] = torch.cat(hidden)

    def _batches(self, module: ContinualLMM, half: int) -> Any:
        rows: list[Row] = [row for _, row in self.halves(module)[half]]
        return answer_batches(module, rows, self.batch_size, self.answer_tokens)

    def _mean(self, module: ContinualLMM) -> Tensor:
        """Mean log-probability of every word over the tokens that calibrate, (vocabulary,) in fp32."""
        total = torch.zeros((), device=module.device)
        tokens = 0

        def add(logits: Tensor, labels: Tensor) -> Tensor:
            nonlocal total
            total = total + logits.float().log_softmax(dim=-1).sum(dim=0)
            return torch.zeros_like(labels)

        with module.inference(gather=False):
            for batch in self._batches(module, 0):
                outputs = module.token_outputs(batch)
                outputs.map(add)
                tokens += len(outputs)
            module.free_gathered()
        return total / tokens

    def read(self, module: ContinualLMM, correction: Tensor) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Means over the scored tokens: ``TV`` and ``KL`` by class, and the gold answers' loss; collective.

        Args:
            module: the present model.
            correction: (vocabulary,), added to its logits.

        Returns:
            The means by name; and the losses by row, (rows,), each the sum over its tokens in tokens of the mean row:
            their mean is that over tokens.
        """
        parts = token_partition(module.processor.tokenizer.get_vocab(), len(correction))
        classes = [torch.tensor(ids, dtype=torch.long, device=module.device) for ids in parts.values()]
        of_base = {k.removeprefix(_HEAD): t for k, t in self.tensors.items() if k.startswith(_HEAD)}

        def function(logits: Tensor, labels: Tensor, before: Tensor) -> Tensor:
            base, present = (z.float().log_softmax(dim=-1) for z in (before, logits))
            corrected = (logits.float() + correction).log_softmax(dim=-1)
            losses = [functional.nll_loss(q, labels, reduction="none") for q in (base, present, corrected)]
            return torch.cat([shift_by_class(base, present, classes), torch.stack(losses, dim=-1)], dim=-1)

        found: list[Tensor] = []
        rows: list[Tensor] = []
        done = asked = 0
        with module.inference(gather=False):
            head = module.head_with(of_base)
            for batch in self._batches(module, 1):
                outputs = module.token_outputs(batch)
                hidden = self.tensors[_HIDDEN][done : done + len(outputs)]
                found.append(outputs.map(function, replace(outputs, hidden=hidden, head=head)))
                rows.append(outputs.samples + asked)
                done += len(outputs)
                asked += self.batch_size
            module.free_gathered()
        names = [
            *(f"{kind} {name}" for kind in ("TV", "KL") for name in parts),
            "base",
            "present",
            "corrected",
        ]
        tokens, row = torch.cat(found), torch.cat(rows)
        means = dict(zip(names, tokens.mean(dim=0).tolist(), strict=True))
        count = len(self.halves(module)[1])
        sums = torch.zeros(count, 3, dtype=torch.float64).index_add_(
            0, row.cpu(), tokens[:, -3:].double().cpu()
        )
        by_row = sums * (count / len(tokens))
        return means, dict(zip(names[-3:], by_row.unbind(dim=1), strict=True))

    def _score(self, module: ContinualLMM, processors: Sequence[LogitsProcessor] = ()) -> list[float]:
        """Scores of greedy answers to the scored rows, 0 to 100; collective."""
        examples = answered(module, self.halves(module)[1], self.batch_size, processors)
        return [100.0 * example.score for example in examples]
