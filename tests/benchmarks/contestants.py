"""Three ways to fine-tune the same model on the same batches: lmmcl, `transformers.Trainer`, TRL's `SFTTrainer`.

Each is called as its documentation tells a user who trains a vision-language model on answers: lmmcl from Python,
the `Trainer` with a collator around the processor (which marks the assistant's tokens), TRL with prompt and
completion, whose collator it brings itself. All train the same tensors in fp32 under bf16 autocast, with fused
AdamW at a constant rate without decay, clipped to a norm of 1, on batches in one order (lmmcl's, which has samples
of like length together), with eager attention on a CPU (the fastest there), without workers and without
checkpointing of activations.

    python -m tests.benchmarks.contestants '{"name": ..., "model": ..., "rows": ..., ...}'
"""

import json
import logging
import statistics
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import lightning.pytorch as pl
import torch
import transformers
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import SingleDeviceStrategy
from PIL import Image
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor, TrainerCallback, TrainingArguments
from typing_extensions import override

import lmmcl.callbacks
from lmmcl import ContinualLMM, TaskSequenceDataModule
from lmmcl.run.saver import Saver
from lmmcl.structure.anatomy import Anatomy
from lmmcl.structure.recipe import Recipe
from tests.benchmarks.fresh_process import Memory, answer

LR = 1e-4
AVERAGED = 5
"""Steps whose loss is averaged into one number that is compared."""


@dataclass(frozen=True)
class Work:
    """What all do.

    Args:
        model: a Hugging Face folder.
        rows: JSONL with ``messages``; of the rivals in the order of training.
        out: a folder to be made.
        recipe: what trains, as lmmcl calls it.
        with_: mitigations of lmmcl, by class name.
        optimizer: ``model.optimizer`` of lmmcl.
        steps: optimizer steps that are timed.
        warm_up: steps before them.
        batch: samples of a step.
    """

    model: str
    rows: str
    out: str
    recipe: str
    steps: int
    warm_up: int
    batch: int
    with_: Sequence[str] = ()
    optimizer: Literal["adamw", "adamw_8bit", "adamw_offload"] = "adamw"

    @property
    def total(self) -> int:
        """Steps in all."""
        return self.warm_up + self.steps


@dataclass
class Watch:
    """Notes when each optimizer step ended, and the peak of memory until then.

    Args:
        until: steps after which a GPU is waited for, so that the clock is right there; between them the host may
            prepare a batch while the GPU computes.
    """

    until: Collection[int]
    ends: list[float] = field(default_factory=list)
    worked: list[float] = field(default_factory=list)
    memory: Memory = field(default_factory=Memory)
    peak: int = 0

    def tick(self) -> None:
        """A step ended."""
        if torch.cuda.is_available() and len(self.ends) + 1 in self.until:
            torch.cuda.synchronize()
        self.peak = self.memory.peak()
        self.ends.append(time.perf_counter())
        self.worked.append(time.process_time())

    def samples_per_processor_second(self, work: Work) -> float:
        """The same per second of one processor: that of a machine that does nothing else."""
        return work.steps * work.batch / (self.worked[work.total - 1] - self.worked[work.warm_up - 1])

    def samples_per_second(self, work: Work) -> float:
        """Over all timed steps, with what lies between them: data, logging."""
        return work.steps * work.batch / (self.ends[work.total - 1] - self.ends[work.warm_up - 1])


def data_of(work: Work) -> TaskSequenceDataModule:
    """The one task as lmmcl takes it."""
    task: dict[str, Any] = {"task": "words", "path": work.rows, "scorer": "exact_match"}
    task["max_train_samples"] = work.total * work.batch
    return TaskSequenceDataModule([task], batch_size=work.batch)


def ordered_rows(work: Work) -> list[dict[str, Any]]:
    """The rows in the order in which lmmcl trains on them."""
    data = data_of(work)
    data.attach(AutoProcessor.from_pretrained(work.model), None)
    chosen = data.train_rows(0)
    data.begin(0, chosen, 0, 0)
    rows = {row["id"]: row for row in map(json.loads, Path(work.rows).read_text().splitlines())}
    return [rows[chosen[position].id] for window in data.loader(0, 1).data.windows for position in window]


class _Measured(Exception):  # noqa: N818 - no error
    """All steps are done."""


class _Clock(Callback):
    """Ticks at every step, keeps its loss, and ends a fit that need not write what it learned."""

    def __init__(self, watch: Watch, total: int) -> None:
        self.losses: list[Tensor | float] = []
        self._watch, self._total = watch, total

    @override
    def on_train_batch_end(self, trainer: Any, pl_module: Any, *arguments: Any) -> None:
        self._watch.tick()
        self.losses.append(pl_module.numbers["loss"])
        if len(self.losses) == self._total and torch.cuda.is_available():
            raise _Measured


@contextmanager
def _nothing_written() -> Iterator[None]:
    """On a GPU: neither checkpoints nor stages, which fill a disk; the rivals save nothing either."""
    if not torch.cuda.is_available():
        yield
        return
    with (
        mock.patch("lmmcl.sequence.driver.check_disk"),
        mock.patch.object(Saver, "start"),
        mock.patch.object(SingleDeviceStrategy, "teardown"),  # moves the model to the host
        suppress(_Measured),
    ):
        yield


class _TrainerClock(TrainerCallback):
    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    @override
    def on_step_end(self, *arguments: Any, **named: Any) -> None:
        self._watch.tick()


def ours(work: Work, watch: Watch) -> list[float]:
    """`Trainer.fit` with `ContinualLMM`; returns the loss of every step."""
    module = ContinualLMM(
        work.model,
        recipe={"train": work.recipe, **({"lr": {"vision": LR}} if work.recipe == "full" else {})},
        lr=LR,
        schedule="constant",
        warmup_ratio=0.0,
        run=work.out,
        optimizer=work.optimizer,
        checkpoint_every_n_steps=work.total + 1,
    )
    clock = _Clock(watch, work.total)
    trainer = pl.Trainer(
        accelerator="auto",
        devices=1,
        precision="bf16-mixed",
        gradient_clip_val=1.0,
        callbacks=[*(getattr(lmmcl.callbacks, name)() for name in work.with_), clock],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with _nothing_written():
        trainer.fit(module, data_of(work))
    return [float(loss) for loss in clock.losses]


def _arguments(work: Work) -> dict[str, Any]:
    """What `TrainingArguments` and `SFTConfig` have in common."""
    return {
        "output_dir": work.out,
        "per_device_train_batch_size": work.batch,
        "max_steps": work.total,
        "learning_rate": LR,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "bf16": True,
        "use_cpu": not torch.cuda.is_available(),
        "gradient_checkpointing": False,
        "train_sampling_strategy": "sequential",
        "logging_steps": AVERAGED,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
    }


def _losses(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry for _ in range(AVERAGED)]


def read_rows(work: Work) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(work.rows).read_text().splitlines()]


def collate(processor: Any, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Padded inputs, and labels on the assistant's tokens, which the processor marks."""
    batch = processor.apply_chat_template(
        [row["messages"] for row in rows],
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        return_assistant_tokens_mask=True,
        processor_kwargs={"padding": True},
    )
    learned = torch.as_tensor(batch.pop("assistant_masks")).bool()
    return {**batch, "labels": batch["input_ids"].masked_fill(~learned, -100)}


def fp32_model(work: Work) -> Any:
    """The model in fp32, in which the recipe's tensors train."""
    model = AutoModelForImageTextToText.from_pretrained(
        work.model, dtype=torch.float32, attn_implementation=None if torch.cuda.is_available() else "eager"
    )
    trained = Recipe.parse(work.recipe).resolve(Anatomy.of(model))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)
    return model


def trainer(work: Work, watch: Watch) -> list[float]:
    """`transformers.Trainer`; returns the loss of every step, averaged."""
    processor = AutoProcessor.from_pretrained(work.model)
    model = fp32_model(work)
    found = transformers.Trainer(
        model,
        TrainingArguments(**_arguments(work)),
        data_collator=partial(collate, processor),
        train_dataset=read_rows(work),
        callbacks=[_TrainerClock(watch)],
    )
    found.train()
    return _losses(found)


def trl(work: Work, watch: Watch) -> list[float]:
    """TRL's `SFTTrainer`; returns the loss of every step, averaged."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    rows = []
    for row in read_rows(work):
        user, assistant = row["messages"]
        picture = Image.open(user["content"][0]["image"]).convert("RGB")
        rows.append(
            {
                "images": [picture],
                "prompt": [{"role": "user", "content": user["content"][1]["text"]}],
                "completion": [{"role": "assistant", "content": assistant["content"][0]["text"]}],
            }
        )
    found = SFTTrainer(
        fp32_model(work),
        SFTConfig(**_arguments(work), max_length=None),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoProcessor.from_pretrained(work.model),
        callbacks=[_TrainerClock(watch)],
    )
    found.train()
    return _losses(found)


WAYS: dict[str, Callable[[Work, Watch], list[float]]] = {"lmmcl": ours, "Trainer": trainer, "TRL": trl}


def compete(name: str, **work: Any) -> dict[str, float]:
    """One contestant: samples per second, bytes of peak memory, and the loss of the last steps.

    Memory counts from after the imports to the end of the last step: model, optimizer, data and whatever training
    needs, loading included. What lmmcl does after it (proofs, the stage) is left out, as saving is of the others.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    if name == "TRL":
        import trl  # noqa: F401  # before the memory is counted
    todo = Work(**work)
    watch = Watch((todo.warm_up, todo.total))
    losses = WAYS[name](todo, watch)
    return {
        "speed": watch.samples_per_second(todo),
        "work": watch.samples_per_processor_second(todo),
        "peak": watch.peak,
        "loss": statistics.mean(losses[-AVERAGED:]),
    }


if __name__ == "__main__":
    answer(compete)
