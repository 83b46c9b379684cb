"""What a sequence asks of Lightning's Trainer, checked before anything expensive starts."""

import math
from typing import Any

from lightning.pytorch import Trainer

from lmmcl.conflicts import check_conflicts
from lmmcl.errors import UserError
from lmmcl.mitigation import callbacks_of
from lmmcl.parallel.strategy import check_strategy
from lmmcl.sequence.callback_check import check_callbacks, is_default

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
    check_callbacks(callbacks_of(trainer), fitting, logged=bool(trainer.loggers))
    if fitting:
        check_conflicts(callbacks_of(trainer))
        _check_fit(trainer)
    if not _is_all(trainer.limit_val_batches):
        raise UserError(
            "trainer.limit_val_batches: what is measured is not Lightning's validation; use data.max_eval_samples."
        )


def _check_fit(trainer: Trainer) -> None:
    """What only a fit asks."""
    if trainer.global_step > 0:
        raise UserError(
            "Trainer.fit: this Trainer has run a sequence before; make a new one, and a new module."
        )
    for key, given, instead in _own(trainer):
        if given:
            raise UserError(f"trainer.{key}: the sequence sets it itself; use {instead}.")
    most: Any = trainer.gradient_clip_val
    if most is not None and not (
        math.isfinite(most) and most >= 0
    ):  # below 0 it would turn every gradient round
        raise UserError(
            f"trainer.gradient_clip_val must be a number from 0 (which clips nothing), got {most!r}."
        )
    if trainer.ckpt_path is not None:
        raise UserError(
            "Trainer.fit(ckpt_path=...): a sequence resumes itself; use ContinualLMM(resume=True)."
        )


def _own(trainer: Trainer) -> list[tuple[str, bool, str]]:
    """The settings that are the sequence's own: whether each was given, and what to use instead.

    Those come first that set others of the list.
    """
    untyped: Any = trainer  # Lightning leaves some of its attributes untyped
    epochs = "data.tasks: [{task: ..., epochs: N}]"
    samples = "data.tasks: [{task: ..., max_train_samples: N}]"
    measured = "canary_every_n_steps of HeldOutEvaluation; between two tasks every task is measured"
    return [
        ("fast_dev_run", bool(untyped.fast_dev_run), samples),
        ("overfit_batches", untyped.overfit_batches > 0, samples),
        ("max_epochs", trainer.fit_loop.max_epochs not in (None, -1, 1000), epochs),
        ("min_epochs", bool(trainer.fit_loop.min_epochs), epochs),
        ("max_steps", trainer.max_steps != -1, samples),
        ("min_steps", trainer.min_steps is not None, epochs),
        ("limit_train_batches", not _is_all(trainer.limit_train_batches), samples),
        (
            "accumulate_grad_batches",
            trainer.accumulate_grad_batches != 1,
            "data.batch_size and data.micro_batch_size",
        ),
        ("val_check_interval", not _is_all(untyped.val_check_interval), measured),
        ("check_val_every_n_epoch", untyped.check_val_every_n_epoch != 1, measured),
    ]


def drop_default_checkpoint(trainer: Trainer) -> None:
    """Removes the ModelCheckpoint that Lightning adds unasked; the sequence has its own checkpoints."""
    trainer.callbacks = [c for c in callbacks_of(trainer) if not is_default(c)]  # type: ignore[attr-defined]  # untyped in Lightning


def _is_all(share: Any) -> bool:
    """Whether a limit of Lightning's is its default: 1.0 is all of the batches, and 1 a single one."""
    return isinstance(share, float) and share == 1.0
