"""How likely a class of tokens (numbers, letters, yes and no) is where nothing asks for it: in captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from transformers import LogitsProcessor
from typing_extensions import override

from lmmcl.data.parse import parse_task
from lmmcl.data.row import Row
from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.evaluation.generate import end_tokens, generate
from lmmcl.evaluation.token_classes import token_class
from lmmcl.mitigation import StageCallback
from lmmcl.model import ContinualLMM
from lmmcl.probing.probe import Reading, is_power_of_ten

SERIES = ("summed probability", "largest probability", "largest logit")


def class_bias(logits: Tensor, ids: Tensor) -> Tensor:
    """What a class of tokens has of each next-token distribution.

    Args:
        logits: (batch, vocabulary).
        ids: (n,) tokens of the class, at least one.

    Returns:
        (batch, 3) in fp32: the summed probability of the class, its largest one, its largest logit.
    """
    logits = logits.float()
    share = logits.softmax(dim=-1)[:, ids]
    return torch.stack([share.sum(-1), share.amax(-1), logits[:, ids].amax(-1)], dim=-1)


class _Watch(LogitsProcessor):
    """Reads `class_bias` of every step of a generation and changes nothing.

    Steps behind a sample's end, in which the batch waits for its longest answer, do not count; the step that says
    the end does.
    """

    def __init__(self, ids: Tensor, ends: Tensor) -> None:
        self._ids, self._ends = ids, ends
        self._open = self._sums = self._steps = torch.zeros(0, device=ids.device)

    @override
    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        read = class_bias(scores, self._ids)
        if not len(self._open):
            self._open, self._sums, self._steps = (
                torch.ones_like(read[:, :1]),
                torch.zeros_like(read),
                0 * read[:, :1],
            )
        else:
            self._open = self._open * ~torch.isin(input_ids[:, -1:], self._ends)
        self._sums = self._sums + read * self._open
        self._steps = self._steps + self._open
        return scores

    def means(self) -> Tensor:
        """Mean over the steps of each sample, (batch, 3)."""
        return self._sums / self._steps


class NumberTokenBias(StageCallback):
    """Watches whether counting tasks make the model say numbers where there is nothing to count.

    The counting-bias probe of arXiv 2510.08564, with any class of tokens: caption prompts are answered greedily, and at
    each step the summed probability of the class's tokens, the largest one and the largest logit are read, and averaged
    over the steps of a sample, then over samples. It reads the base model, every stage, and each task after 1, 10, 100,
    ... optimizer steps. Number tokens count with and without the tokenizer's mark of a leading space; the study's code
    misses those with it. Every process answers all prompts.

    It costs one greedy answer per prompt and reading: 32 captions beside hundreds of answers per measured task. Written
    to ``probes/NumberTokenBias.jsonl`` (probabilities) and ``probes/NumberTokenBias logits.jsonl``.

    Args:
        tasks: whose test rows are the prompts, in the forms of ``data.held_out``, names of the run's own tasks among
            them; null: the captions of the picture world.
        prompt: asked of the rows' pictures in place of their own questions, such as ``Describe this image.``: makes
            caption prompts of any task.
        tokens: ``numbers``, ``letters``, ``yes_no``, or a regular expression that a token's text without its leading
            space matches as a whole.
        samples: prompts in all, dealt over the tasks, from 1.
        max_new_tokens: longest answer in tokens, from 1; null: each task's own.
        batch_size: prompts answered at once, from 1.
        name: of its log and state; two classes of tokens are watched by two callbacks with two names.

    Raises:
        UserError: a value is out of its range.
    """

    def __init__(
        self,
        tasks: list[str | dict[str, Any]] | None = None,
        prompt: str | None = None,
        tokens: str = "numbers",
        samples: int = 32,
        max_new_tokens: int | None = None,
        batch_size: int = 16,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        for key, value in (
            ("samples", samples),
            ("max_new_tokens", max_new_tokens),
            ("batch_size", batch_size),
        ):
            if value is not None and value < 1:
                raise UserError(f"trainer.callbacks: NumberTokenBias.{key} must be at least 1, got {value}.")
        if tasks is not None and (isinstance(tasks, str) or not tasks):
            raise UserError(
                f"trainer.callbacks: NumberTokenBias.tasks must list at least one task or be null, got {tasks!r}."
            )
        self.tasks = ["caption"] if tasks is None else list(tasks)
        self.prompt = prompt
        self.tokens = tokens
        self.samples = samples
        self.max_new_tokens = max_new_tokens
        self.batch_size = batch_size
        self._prompts: list[tuple[Task, Row]] = []

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        assert isinstance(pl_module, ContinualLMM)
        if stage == "fit":  # what is wrong in the YAML shows before the base model is measured
            self._ids = token_class(pl_module.processor.tokenizer.get_vocab(), self.tokens)
            self._prompts = self._deal(pl_module)

    def _deal(self, module: ContinualLMM) -> list[tuple[Task, Row]]:
        own = {task.name: task for task in (*module.data.tasks, *module.data.held_out)}
        key = "trainer.callbacks: NumberTokenBias.tasks"
        parts: list[tuple[Task, Sequence[Row]]] = []
        for spec in self.tasks:
            known = own.get(spec) if isinstance(spec, str) else None
            task = known or parse_task(spec, key=key, held_out=True, settings=module.data.settings)
            parts.append((task, module.data.eval_rows(task, "test", self.samples)))
        dealt = [(task, rows[i]) for i in range(self.samples) for task, rows in parts if i < len(rows)]
        return [(task, self._asked(row)) for task, row in dealt[: self.samples]]

    def _asked(self, row: Row) -> Row:
        if self.prompt is None:
            return row
        content = [*({"type": "image"} for _ in row.images), {"type": "text", "text": self.prompt}]
        return replace(row, messages=[{"role": "user", "content": content}, row.messages[-1]])

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, ContinualLMM)
        sequence = pl_module.sequence
        if sequence.is_new_step(trainer) and is_power_of_ten(sequence.position.step + 1):
            self._put(trainer, pl_module, "step")

    @override
    def on_stage_end(self, trainer: Trainer, module: ContinualLMM, task: Task | None, scores: Any) -> None:
        self._put(trainer, module, "stage")

    def _put(self, trainer: Trainer, module: ContinualLMM, at: Literal["stage", "step"]) -> None:
        means = dict(zip(SERIES, self.read(module), strict=True))
        logit = {SERIES[2]: means.pop(SERIES[2])}
        said = f"tokens of the class {self.tokens} in greedy answers to {len(self._prompts)} caption prompts"
        kind = type(self).__name__
        about = f"Probability of {said}, mean over steps, then samples."
        Reading(self.name, kind, f"{self.tokens} in captions: probability", "probability", about).put(
            trainer, module, at, means
        )
        about = f"Largest logit of {said}, mean over steps, then samples."
        Reading(f"{self.name} logits", kind, f"{self.tokens} in captions: largest logit", "logit", about).put(
            trainer, module, at, logit
        )

    def read(self, module: ContinualLMM) -> list[float]:
        """Mean of `class_bias` over steps, then samples; collective."""
        ids = torch.tensor(self._ids, device=module.device)
        ends = torch.tensor(end_tokens(module.model, module.processor), device=module.device)
        found: list[Tensor] = []
        with module.inference():
            for start in range(0, len(self._prompts), self.batch_size):
                part, watch = self._prompts[start : start + self.batch_size], _Watch(ids, ends)
                longest = self.max_new_tokens or max(task.max_new_tokens for task, _ in part)
                prompts = module.data.collator.prompts([row for _, row in part]).to(module.device)
                generate(module.model, module.processor, prompts, longest, [watch])
                found.append(watch.means())
        return [float(value) for value in torch.cat(found).mean(dim=0)]
