"""`ContinualLMM`: a large multimodal model that learns one task after the other under Lightning."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from lightning.pytorch import Callback
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer
from typing_extensions import override

from lmmcl import weights as tensors
from lmmcl.building.build import Build
from lmmcl.building.wrapped_model import WrappedModel
from lmmcl.data.batches.batch import Batch
from lmmcl.data.datamodule import TaskSequenceDataModule
from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.loading import Checkpoint
from lmmcl.mitigation import Mitigation, StageCallback, callbacks_of
from lmmcl.optim.optimizer import optimizer_of, scheduled
from lmmcl.optimizer_step import OptimizerStep
from lmmcl.parallel.strategy import take_trainable
from lmmcl.settings import check_settings
from lmmcl.structure.recipe import Recipe
from lmmcl.structure.recipe_spec import RecipeSpec

if TYPE_CHECKING:
    from lmmcl.sequence.task_sequence import TaskSequence


class ContinualLMM(WrappedModel):
    """Wraps a Hugging Face image-text-to-text model for a sequence of tasks.

    The loss is the mean negative log-likelihood over the answer tokens of the global batch, whatever the number of
    processes and micro-batches. What trains is held in fp32 and computed in bf16 under ``precision: bf16-mixed``.

    Args:
        path: model and processor: a local folder, a hub id, or ``mini``, the small model that ships with lmmcl.
        recipe: what trains: a name (``sa_proj``), a list of names, or a mapping with ``train``, ``layers`` and ``lr``.
        lr: peak learning rate (default of the study, arXiv 2510.08564); the vision tower has its own group at 0.4 of
            it (2e-6 to 5e-6 there).
        weight_decay: AdamW's decoupled decay of matrices.
        betas: AdamW's decay rates.
        optimizer: ``adamw``; ``adamw_8bit`` holds its moments in 8 bits, a quarter of the memory; ``adamw_offload`` in
            the memory of the host, which takes longer.
        train_dtype: what trains is held in ``fp32``, or in ``bf16`` with gradients in bf16, half of the memory.
        rounding: of updates under ``train_dtype: bf16``: ``stochastic``, or ``kahan``, which keeps what rounding took
            in 2 more bytes and follows fp32 more closely; None takes ``kahan``.
        frozen_bits: hold linear layers of the decoder that nobody trains in 8 or 4 bits; None: as the
            checkpoint has them.
        schedule: of the learning rate inside each task.
        warmup_ratio: share of a task's steps with a rising rate, in [0, 1).
        run: folder of the run.
        resume: go on with the run in that folder instead of refusing to touch it.
        checkpoint_every_n_steps: optimizer steps between two saves of ``last``.
        from_scratch: keep the checkpoint's config and processor but make new weights from the seed.
        revision: branch, tag or commit on the hub.
        trust_remote_code: run Python code that a checkpoint brings.
        attn_implementation: transformers' name of the attention kernel (``eager``, ``sdpa``, ...); None
            takes ``eager`` on a CPU, flash attention on a GPU where package and model have it, else ``sdpa``.
        activation_checkpointing: recompute activations in the backward pass: less memory, about a third more time. Of
            all layers that a gradient passes, or of the named parts: ``vision``, ``llm``.
        compile: compile the decoder layers with torch.compile.
        liger: use Liger's kernel for the loss where it is installed (``lmmcl[gpu]``) and the model is on a GPU.
        max_length: longest sample in tokens; None takes the model's limit.
        seed: of everything random.
    """

    def __init__(
        self,
        path: str,
        recipe: RecipeSpec = "sa_proj",
        lr: float = 5e-6,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
        optimizer: Literal["adamw", "adamw_8bit", "adamw_offload"] = "adamw",
        train_dtype: Literal["fp32", "bf16"] = "fp32",
        rounding: Literal["stochastic", "kahan"] | None = None,
        frozen_bits: Literal[8, 4] | None = None,
        schedule: Literal["cosine", "constant"] = "cosine",
        warmup_ratio: float = 0.03,
        run: str | Path = "runs/lmmcl",
        resume: bool = False,
        checkpoint_every_n_steps: int = 100,
        from_scratch: bool = False,
        revision: str | None = None,
        trust_remote_code: bool = False,
        attn_implementation: str | None = None,
        activation_checkpointing: bool | list[Literal["vision", "llm"]] = False,
        compile: bool = False,
        liger: bool = True,
        max_length: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        # Lightning would announce 1000 epochs before the driver sets the number of the sequence.
        warnings.filterwarnings("ignore", message="`max_epochs` was not set")
        self.save_hyperparameters()
        check_settings(self.hparams)
        self.checkpoint = Checkpoint(path, revision, trust_remote_code, from_scratch)
        self.processor = self.checkpoint.processor()
        self.task: Task | None = None
        self.trained: dict[str, str] = {}
        self._training: dict[str, Parameter] = {}
        self.without_gradient: list[str] = []
        self.steps_in_task = 0
        self.numbers: dict[str, Tensor | float] = {}
        self.present_step = OptimizerStep(self)
        self._begun = False
        self._anchor: dict[str, Tensor] | None = None

    # The run

    @property
    def run_path(self) -> Path:
        """Folder of the run."""
        return Path(self.hparams["run"]).expanduser()

    @property
    def max_length(self) -> int | None:
        """Longest sample in tokens."""
        limit: int | None = self.hparams["max_length"]
        return self.checkpoint.max_length if limit is None else limit

    @property
    def data(self) -> TaskSequenceDataModule:
        """The datamodule of the running trainer."""
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, TaskSequenceDataModule):
            raise UserError("Trainer.fit needs a TaskSequenceDataModule: Trainer(...).fit(module, data).")
        return data

    @property
    def mitigations(self) -> list[Mitigation]:
        """The mitigations of the running trainer, in the order listed."""
        return [c for c in self.stage_callbacks if isinstance(c, Mitigation)]

    @property
    def stage_callbacks(self) -> list[StageCallback]:
        """All callbacks that hear about stages, in the order listed."""
        return [c for c in callbacks_of(self.trainer) if isinstance(c, StageCallback)]

    @property
    def sequence(self) -> TaskSequence:
        """The running sequence."""
        from lmmcl.sequence.driver import SequenceDriver

        return next(c for c in callbacks_of(self.trainer) if isinstance(c, SequenceDriver)).sequence

    # Building

    @override
    def configure_callbacks(self) -> Sequence[Callback]:
        from lmmcl.sequence.driver import SequenceDriver

        # Before other callbacks set themselves up: some of Lightning's fail there in words of their own.
        SequenceDriver.check(self.trainer)
        return [SequenceDriver()]

    @override
    def configure_model(self) -> None:
        if self._anatomy is not None:
            return
        build = Build(self.checkpoint, self.hparams, self.trainer.strategy, self.bf16)
        model = build.load()
        self._wrap(model)
        for mitigation in self.mitigations:
            mitigation.adapt(self, model)
        self._ready(self.hparams["liger"])
        build.finish(model, self.anatomy, self.ever_trained())

    def refuse_second_fit(self) -> None:
        """Raises UserError if this object was trained before: its base model would be the tuned one."""
        if self._begun:
            raise UserError(
                "this ContinualLMM was fitted before; make a new one, which loads its checkpoint again."
            )
        self._begun = True

    # What trains

    def recipe_of(self, task: Task) -> Recipe:
        """The recipe a task trains with: its own or the module's."""
        return Recipe.parse(task.recipe if task.recipe is not None else self.hparams["recipe"])

    def trained_by(self, task: Task) -> dict[str, str]:
        """What a task trains, parameter to group: its recipe's choice, or adapters in the place of it."""
        trained: Mapping[str, str] = self.recipe_of(task).resolve(self.anatomy)
        for mitigation in self.mitigations:
            trained = mitigation.trains(self, task, trained)
        return dict(trained)

    def arrange(self, stage: int, ended: bool) -> None:
        """Lets every mitigation bring its adapters into the state that a stage needs; see `Mitigation.arrange`."""
        for mitigation in self.mitigations:
            mitigation.arrange(self, stage, ended)

    def trained_parameters(self) -> dict[str, Parameter]:
        """What the present task trains."""
        if self._training.keys() != self.trained.keys():
            self._training = self.parameters_by_name(list(self.trained))
        return self._training

    def may_change(self) -> set[str]:
        """What the present task may change: what it trains, and the tensors into which its adapters are merged."""
        folds = [] if self.task is None else [m.folds(self, self.task) for m in self.mitigations]
        return {*self.trained, *(fold.into for found in folds for fold in found)}

    def ever_trained(self) -> list[str]:
        """Names of what any task of the sequence trains, in model order."""
        names = {name for task in self.data.tasks for name in self.trained_by(task)}
        return [name for name in self.parameters_by_name() if name in names]

    def begin_task(self, task: Task) -> None:
        """Sets what trains; the driver calls it before it makes the task's optimizer."""
        self.task = task
        self._anchor = None
        self.trained, self._training = self.trained_by(task), {}
        self.without_gradient = []
        self.arrange(self.sequence.position.stage, self.sequence.position.ended)
        for name, parameter in self.parameters_by_name().items():
            parameter.requires_grad_(name in self.trained)
            parameter.grad = None
        take_trainable(self.model)
        # from_pretrained returns eval mode, in which activation checkpointing does nothing.
        self.model.train()

    def anchor(self) -> Mapping[str, Tensor]:
        """Copies of the trained tensors as the task began; one copy for all who ask in ``on_task_start``."""
        if self._anchor is None:
            self._anchor = tensors.snapshot(self.trained_parameters())
        return self._anchor

    # Optimization

    @override
    def configure_optimizers(self) -> OptimizerLRScheduler:
        if self.task is None:  # Lightning asks once before any task begins, each of which has its own
            return torch.optim.SGD([torch.zeros((), requires_grad=True)], lr=0.0)
        recipe, base = self.recipe_of(self.task), self.task.lr or self.hparams["lr"]
        rates = {name: recipe.lr_for(group, base) for name, group in self.trained.items()}
        optimizer = optimizer_of(self.hparams, self.trained_parameters(), rates, self.task.name)
        schedule, warmup = self.hparams["schedule"], self.hparams["warmup_ratio"]
        return scheduled(optimizer, schedule, warmup, self.steps_in_task)

    @override
    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self.present_step.begin(batch)
            self.numbers = {}

    @override
    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.present_step.loss(batch)

    @override
    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Lets go of gradients as soon as they are used; Lightning would keep them through the next forward."""
        if (batch_idx + 1) % self.trainer.accumulate_grad_batches == 0:
            for parameter in self.trained_parameters().values():
                parameter.grad = None

    @override
    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """Nothing: the driver measures when ``Trainer.validate`` starts."""

    @override
    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        means = self.present_step.means()
        self.log("loss", means.pop("loss"), prog_bar=True, rank_zero_only=True)
        if means:
            self.log_dict(means, rank_zero_only=True)
        self.log("lr", max(group["lr"] for group in optimizer.param_groups), rank_zero_only=True)

    @override
    def log(self, name: str, value: Any, *args: Any, **kwargs: Any) -> None:
        """Logs as Lightning does, and keeps the step's numbers for the run's own log; a torchmetrics.Metric is none."""
        if isinstance(value, Tensor | int | float):
            self.numbers[name] = value
        # No step waits for the device: Lightning would to move a number there, and to read what a bar may show.
        if isinstance(value, int | float):
            value = torch.full((), value, dtype=torch.get_default_dtype(), device=self.device)
        bar = self.trainer.progress_bar_callback
        if "prog_bar" in kwargs and (bar is None or getattr(bar, "reads_numbers", False)):
            kwargs["prog_bar"] = False
        super().log(name, value, *args, **kwargs)

    @override
    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        norm = self.present_step.clip(gradient_clip_val, gradient_clip_algorithm)
        self.log("grad_norm", norm, rank_zero_only=True)
