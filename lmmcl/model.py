"""`ContinualLMM`: a large multimodal model that learns one task after the other under Lightning."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer
from typing_extensions import override

from lmmcl import weights as tensors
from lmmcl.build import Build
from lmmcl.data.batches.batch import Batch
from lmmcl.data.batches.order import draw
from lmmcl.data.datamodule import TaskSequenceDataModule
from lmmcl.data.task import Task
from lmmcl.data_parallel import share
from lmmcl.errors import UserError
from lmmcl.evaluation.generate import generate
from lmmcl.loading import Checkpoint
from lmmcl.losses import cross_entropy
from lmmcl.mitigation import Mitigation, StageCallback, callbacks_of
from lmmcl.optim.optimizer import clip_by_norm, clip_by_value, optimizer_of, scheduled
from lmmcl.outputs.forward import AnswerForward
from lmmcl.outputs.token_outputs import TokenOutputs
from lmmcl.parallel.strategy import FSDP2Strategy, take_trainable
from lmmcl.settings import check_settings
from lmmcl.structure.anatomy import Anatomy
from lmmcl.structure.recipe import Recipe
from lmmcl.structure.recipe_spec import RecipeSpec
from lmmcl.window import JoinedSets, Window, apply_weight_penalties

if TYPE_CHECKING:
    from lmmcl.sequence import SequenceDriver


class ContinualLMM(LightningModule):
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

    model: nn.Module

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
        self._anatomy: Anatomy | None = None
        self.numbers: dict[str, Tensor | float] = {}
        self.joined = JoinedSets({})
        self._window = Window()
        self._begun = False
        self._anchor: dict[str, Tensor] | None = None

    # What it is made of

    @property
    def anatomy(self) -> Anatomy:
        """Groups of parameters and paths of the layers."""
        if self._anatomy is None:
            raise RuntimeError("the model is built by configure_model, which Lightning calls")
        return self._anatomy

    @property
    def run_path(self) -> Path:
        """Folder of the run."""
        return Path(self.hparams["run"])

    @property
    def max_length(self) -> int | None:
        """Longest sample in tokens."""
        config = self.checkpoint.config()
        text = config.get_text_config()
        limit = self.hparams["max_length"]
        return limit if limit is not None else getattr(text, "max_position_embeddings", None)

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
    def sequence(self) -> SequenceDriver:
        """The driver of the running sequence."""
        from lmmcl.sequence import SequenceDriver

        return next(c for c in callbacks_of(self.trainer) if isinstance(c, SequenceDriver))

    @property
    def bf16(self) -> bool:
        """Whether forwards compute in bf16."""
        return self.trainer.precision == "bf16-mixed"

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

    def parameters_by_name(self, names: Sequence[str] | None = None) -> dict[str, Parameter]:
        """Parameters of the wrapped model, all or the named ones, in model order."""
        wanted = None if names is None else set(names)
        return {n: p for n, p in tensors.parameters_of(self.model).items() if wanted is None or n in wanted}

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

    @override
    def configure_callbacks(self) -> Sequence[Callback]:
        from lmmcl.sequence import SequenceDriver

        return [SequenceDriver()]

    @override
    def configure_model(self) -> None:
        if self._anatomy is not None:
            return
        build = Build(self.checkpoint, self.hparams, self.trainer.strategy, self.bf16)
        model = build.load()
        self._anatomy = Anatomy.of(model)
        self.model = model
        for mitigation in self.mitigations:
            mitigation.adapt(self, model)
        self._forwards = AnswerForward(model, self.bf16, self._anatomy, self.hparams["liger"])
        build.finish(model, self.anatomy, self.ever_trained())

    def refuse_second_fit(self) -> None:
        """Raises UserError if this object was trained before: its base model would be the tuned one."""
        if self._begun:
            raise UserError(
                "this ContinualLMM was fitted before; make a new one, which loads its checkpoint again."
            )
        self._begun = True

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

    def join(self, trainer: Trainer, task: Task) -> None:
        """Asks every mitigation for the rows that join those of a task; the driver does so before it serves them."""
        self.joined = JoinedSets({m.name: m.join(trainer, self, task) for m in self.mitigations})

    def anchor(self) -> Mapping[str, Tensor]:
        """Copies of the trained tensors as the task began; one copy for all who ask in ``on_task_start``."""
        if self._anchor is None:
            self._anchor = tensors.snapshot(self.trained_parameters())
        return self._anchor

    # Optimization

    @override
    def configure_optimizers(self) -> OptimizerLRScheduler:
        if (
            self.task is None
        ):  # Lightning asks once before the driver knows; the driver makes each task's own.
            return torch.optim.SGD([torch.zeros((), requires_grad=True)], lr=0.0)
        recipe, base = self.recipe_of(self.task), self.task.lr or self.hparams["lr"]
        rates = {name: recipe.lr_for(group, base) for name, group in self.trained.items()}
        optimizer = optimizer_of(self.hparams, self.trained_parameters(), rates, self.task.name)
        schedule, warmup = self.hparams["schedule"], self.hparams["warmup_ratio"]
        return scheduled(optimizer, schedule, warmup, self.steps_in_task)

    @override
    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self._window.begin(batch.window_tokens, self.device, batch.joined_tokens)
            self.numbers = {}
            # Dropout and the like: counter-based, so that there is nothing to save.
            assert self.task is not None
            key = (
                self.hparams["seed"],
                self.task.name,
                self.sequence.position.step,
                share()[0],
                "torch",
            )
            torch.manual_seed(int(draw(1, *key)[0] >> 1))

    @override
    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        if batch.idle:
            return torch.zeros((), device=self.device, requires_grad=True)
        for mitigation in self.mitigations:
            mitigation.before_forward(self, batch)
        everywhere = any(mitigation.positions == "all" for mitigation in self.mitigations)
        outputs = self.token_outputs(batch, everywhere=everywhere)
        losses = outputs.map(cross_entropy)
        terms = {"loss": self._window.summed(losses, outputs.samples, batch, self.joined)}
        for mitigation in self.mitigations:
            extra = mitigation.token_loss(self, batch, outputs)
            if extra is not None:
                at = outputs if mitigation.positions == "answer" else outputs.everywhere
                assert at is not None
                name = mitigation.name
                terms[name] = self._window.summed(extra, at.samples, batch, self.joined, name)
        return self._window.add(terms, share()[1], self.trainer.accumulate_grad_batches)

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
        penalties = apply_weight_penalties(self.mitigations, self.trained_parameters())
        sharded = isinstance(self.trainer.strategy, FSDP2Strategy)
        means = self._window.means(penalties, sharded, self.trainer.global_step + 1)
        self.log("loss", means.pop("loss"), prog_bar=True, rank_zero_only=True)
        if means:
            self.log_dict(means, rank_zero_only=True)
        self.log("lr", max(group["lr"] for group in optimizer.param_groups), rank_zero_only=True)

    @override
    def log(self, name: str, value: Any, *args: Any, **kwargs: Any) -> None:
        """Logs as Lightning does, and keeps the step's numbers for the run's own log."""
        self.numbers[name] = value
        super().log(name, value, *args, **kwargs)

    def check_finite(self) -> None:
        """Raises UserError, naming task and step, if a loss was not finite since the fit began."""
        self._window.check_finite(self.task.name if self.task else "?")

    @override
    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        if gradient_clip_algorithm == "value":
            # Not Lightning's clip_gradients, which refuses a fused optimizer under bf16-mixed for fp16's sake.
            if gradient_clip_val:
                clip_by_value(self.trained_parameters().values(), gradient_clip_val)
            return
        norm = clip_by_norm(self.trained_parameters().values(), gradient_clip_val)
        self._window.watch(norm, self.trainer.global_step + 1)
        self.log("grad_norm", norm, rank_zero_only=True)

    # Forward

    def token_outputs(
        self, batch: Batch, weights: Mapping[str, Tensor] | None = None, everywhere: bool = False
    ) -> TokenOutputs:
        """What the model predicts at the answer tokens of a batch.

        Args:
            batch: with labels.
            weights: run these values of some parameters instead of the present ones: in eval mode, without a
                gradient, under the student's autocast. Call it before the student's forward.
            everywhere: also what it predicts at every other token of the samples, in `TokenOutputs.everywhere`.
        """
        return self._forwards.token_outputs(batch, weights, everywhere)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits (tokens, vocabulary) of hidden states (tokens, width)."""
        return self._forwards.logits(hidden)

    def head_with(self, weights: Mapping[str, Tensor]) -> Callable[[Tensor], Tensor]:
        """`logits` with other values of the output embedding, by parameter name; collective where they are sharded."""
        return self._forwards.head_with(weights)

    def inference(self, gather: bool = True) -> AbstractContextManager[None]:
        """Eval mode, no gradient, the training's autocast; sharded parameters stay gathered if asked."""
        return self._forwards.inference(gather)

    def autocast(self) -> AbstractContextManager[None]:
        """The autocast of a training step, for forwards in a hook, which run outside of it."""
        return self._forwards.autocast()

    def free_gathered(self) -> None:
        """After forwards without a gradient: lets go of gathered parameters, so that none outlives an update."""
        self._forwards.free_gathered()

    def generate(self, batch: Batch, max_new_tokens: int) -> list[str]:
        """Greedy answers to a batch of prompts."""
        return generate(self.model, self.processor, batch.to(self.device), max_new_tokens)
