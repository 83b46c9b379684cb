"""What a sequence asks of Lightning's Trainer, checked before anything expensive starts."""

from collections import Counter
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from lmmcl.conflicts import check_conflicts
from lmmcl.errors import UserError
from lmmcl.mitigation import StageCallback, callbacks_of
from lmmcl.parallel.strategy import check_strategy

_PRECISIONS = {
    "bf16-true": "pure bf16 weights swallow most updates of a small learning rate (at lr 5e-6, 300 steps of AdamW "
    "change 4.8 % of them, against 86.6 % with fp32 masters)",
    "16-true": "pure fp16 weights swallow most updates of a small learning rate",
    "16-mixed": "fp16 needs a loss scale, whose skipped steps a sequence cannot repeat exactly",
    "64-true": "nothing here is computed in double precision",
}


def check_trainer(trainer: Trainer, fitting: bool) -> None:
    """Refuses settings that would break the sequence, each with the key to use instead.

    Raises:
        UserError: names the setting.
    """
    check_strategy(trainer.strategy)
    precision = str(trainer.precision)
    if precision not in ("32-true", "bf16-mixed"):
        reason = _PRECISIONS.get(precision, "it is not tested with sequences")
        raise UserError(f"trainer.precision: {precision} is refused: {reason}. Use bf16-mixed or 32-true.")
    names = Counter(c.name for c in callbacks_of(trainer) if isinstance(c, StageCallback))
    for name, count in names.items():
        if count > 1:
            raise UserError(
                f"trainer.callbacks: {count} callbacks are called {name}; give each a name of its own (name: ...)."
            )
    if not fitting:
        return
    check_conflicts(callbacks_of(trainer))
    untyped: Any = trainer  # Lightning leaves some of its attributes untyped
    refused = {
        "max_epochs": (
            trainer.fit_loop.max_epochs not in (None, -1, 1000),
            "data.tasks: [{task: ..., epochs: N}]",
        ),
        "min_epochs": (bool(trainer.fit_loop.min_epochs), "data.tasks: [{task: ..., epochs: N}]"),
        "max_steps": (trainer.max_steps != -1, "data.tasks: [{task: ..., max_train_samples: N}]"),
        "min_steps": (trainer.min_steps is not None, "data.tasks: [{task: ..., epochs: N}]"),
        "max_time": (
            any(type(c).__name__ == "Timer" for c in callbacks_of(trainer)),
            "--ckpt_path last, after a stop",
        ),
        "overfit_batches": (untyped.overfit_batches > 0, "data.tasks: [{task: ..., max_train_samples: N}]"),
        "limit_train_batches": (
            trainer.limit_train_batches != 1.0,
            "data.tasks: [{task: ..., max_train_samples: N}]",
        ),
        "accumulate_grad_batches": (
            trainer.accumulate_grad_batches != 1,
            "data.batch_size and data.micro_batch_size",
        ),
        "fast_dev_run": (bool(untyped.fast_dev_run), "data.tasks: [{task: ..., max_train_samples: N}]"),
    }
    for key, (given, instead) in refused.items():
        if given:
            raise UserError(f"trainer.{key}: the sequence sets it itself; use {instead}.")
    for callback in callbacks_of(trainer):
        if isinstance(callback, ModelCheckpoint) and not _is_default(callback):
            raise UserError(
                "trainer.callbacks: ModelCheckpoint would save the whole model; a sequence keeps last/ (see "
                "model.checkpoint_every_n_steps) and stages/ by itself. Remove it."
            )
    if trainer.ckpt_path is not None:
        raise UserError(
            "Trainer.fit(ckpt_path=...): a sequence resumes itself; use ContinualLMM(resume=True)."
        )


def drop_default_checkpoint(trainer: Trainer) -> None:
    """Removes the ModelCheckpoint that Lightning adds unasked; the sequence has its own checkpoints."""
    trainer.callbacks = [c for c in callbacks_of(trainer) if not isinstance(c, ModelCheckpoint)]  # type: ignore[attr-defined]  # untyped in Lightning


def _is_default(callback: ModelCheckpoint) -> bool:
    own = (callback.monitor, callback.dirpath, callback.filename, callback.save_last, callback.save_top_k)
    return type(callback) is ModelCheckpoint and own == (None, None, None, None, 1)
