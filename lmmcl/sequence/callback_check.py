"""Which callbacks a sequence runs with, checked before any of them sets itself up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint

from lmmcl.errors import UserError
from lmmcl.mitigation import StageCallback
from lmmcl.run.log import RESERVED

_LENGTH = "how long a task takes is said by data.tasks: [{task: ..., epochs: N, max_train_samples: M}]"
_KEPT = "a sequence keeps last/ (see model.checkpoint_every_n_steps) and stages/ by itself"
_AVERAGES = "no stage would hold what it averages; EMA and SFA average inside each task"
_ON_TRIAL = "it trains on trial before the sequence begins"
_REFUSED = {
    "EarlyStopping": f"it would end the whole sequence in the midst of a task; {_LENGTH}",
    "Timer": "it would end the sequence in the midst of a task; stop a run whenever you like (SIGTERM), and go on with "
    "--ckpt_path last",
    "ModelCheckpoint": f"it would save the whole model; {_KEPT}",
    "OnExceptionCheckpoint": f"it would save the whole model; {_KEPT}",
    "StochasticWeightAveraging": f"it replaces the learning rates of the tasks, and {_AVERAGES}",
    "WeightAveraging": _AVERAGES,
    "GradientAccumulationScheduler": "the loss of a step is counted over all its forwards; use data.batch_size, also "
    "beside a task, and data.micro_batch_size",
    "BatchSizeFinder": f"{_ON_TRIAL}; use data.micro_batch_size, and lmmcl preflight for what fits",
    "LearningRateFinder": f"{_ON_TRIAL}; try rates with lmmcl sweep",
    "BaseFinetuning": "what trains is the recipe's to say: model.recipe, or recipe beside a task",
    "ModelPruning": "it writes into tensors that the recipe freezes",
}
"""Callbacks of Lightning that break a sequence, some of them without a word: each with the reason and the way out."""

_LOGGED = ("LearningRateMonitor", "DeviceStatsMonitor")
"""Callbacks of Lightning that end a fit without a logger, one of them when the base model has been measured."""

_LIGHTNING = ("lightning.", "pytorch_lightning.")


def check_callbacks(callbacks: Sequence[Callback], fitting: bool, logged: bool = True) -> None:
    """Refuses callbacks that cannot run beside a sequence, and names that would hide one another.

    Args:
        callbacks: of the trainer.
        fitting: whether they are for a fit; else for a measurement.
        logged: whether the trainer has a logger.

    Raises:
        UserError: names the callback, the reason and what to use instead.
    """
    _check_names([one for one in callbacks if isinstance(one, StageCallback)])
    for callback in callbacks if fitting else ():
        if isinstance(callback, StageCallback) and callback._fitted:
            raise UserError(
                f"trainer.callbacks: this {callback.name} was part of a fit before, and holds what it learned there; "
                "make a new one for every fit, also for one that goes on with a run."
            )
        name, kinds = type(callback).__name__, _kinds(callback)
        found = next((kind for kind in _REFUSED if kind in kinds), None)
        if found is not None and not is_default(callback):
            raise UserError(f"trainer.callbacks: {name}: {_REFUSED[found]}. Remove it.")
        if not logged and not kinds.isdisjoint(_LOGGED):
            raise UserError(
                f"trainer.callbacks: {name} writes to Lightning's loggers, and there is none: add trainer.logger: "
                "true, or remove it (learning rates, seconds and memory stand in the run's own logs/)."
            )


def _kinds(callback: Callback) -> set[str]:
    """Which of Lightning's callbacks it is, or is derived from."""
    return {kind.__name__ for kind in type(callback).__mro__ if kind.__module__.startswith(_LIGHTNING)}


def is_default(callback: Callback) -> bool:
    """Whether it is the ModelCheckpoint that Lightning adds unasked, or one that asks for no more."""
    return type(callback) is ModelCheckpoint and _asked(callback) == _asked(ModelCheckpoint())


def _asked(callback: ModelCheckpoint) -> dict[str, object]:
    """The plain arguments that it was made with, as far as it keeps them."""
    plain = (bool, int, float, str, type(None))
    return {key: value for key, value in vars(callback).items() if isinstance(value, plain)}


def _check_names(callbacks: Sequence[StageCallback]) -> None:
    for name, count in Counter(one.name for one in callbacks).items():
        if count > 1:
            raise UserError(
                f"trainer.callbacks: {count} callbacks are called {name}; give each a name of its own (name: ...)."
            )
        if name in RESERVED:
            raise UserError(
                f"trainer.callbacks: name: {name} is that of a column of the run's log, which a term of the callback "
                f"would take the place of. Choose another than {', '.join(RESERVED)}."
            )
        if "/" in name or not name.strip():
            raise UserError(
                f"trainer.callbacks: name: a callback's name must be a text without '/', got {name!r}: what it keeps "
                "is found again by it."
            )
