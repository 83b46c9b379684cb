"""Callbacks that break a sequence, and names that hide one another, are refused before anything is set up."""

from pathlib import Path

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    BatchSizeFinder,
    EarlyStopping,
    EMAWeightAveraging,
    GradientAccumulationScheduler,
    LambdaCallback,
    LearningRateFinder,
    LearningRateMonitor,
    ModelCheckpoint,
    ModelPruning,
    OnExceptionCheckpoint,
    StochasticWeightAveraging,
    Timer,
    TQDMProgressBar,
)

from lmmcl.callbacks import L2SP, HeldOutEvaluation, LwF
from lmmcl.errors import UserError
from lmmcl.sequence.callback_check import check_callbacks, is_default
from tests.tiny_run import contents
from tests.toy import toy_data, toy_module, toy_trainer


class Patient(EarlyStopping):
    """A user's own kind of it."""


@pytest.mark.parametrize(
    ("callback", "instead"),
    [
        (EarlyStopping("loss"), "EarlyStopping: .*max_train_samples"),
        (Patient("loss"), "Patient: .*in the midst of a task"),
        (Timer(duration="00:01:00:00"), "Timer: .*--ckpt_path last"),
        (ModelCheckpoint(every_n_train_steps=5), "ModelCheckpoint: .*model.checkpoint_every_n_steps"),
        (ModelCheckpoint(save_weights_only=True), "ModelCheckpoint: "),
        (OnExceptionCheckpoint("here"), "OnExceptionCheckpoint: .*keeps last/"),
        (StochasticWeightAveraging(1e-3), "StochasticWeightAveraging: .*learning rates.*EMA and SFA"),
        (EMAWeightAveraging(), "EMAWeightAveraging: no stage.*EMA and SFA"),
        (GradientAccumulationScheduler({0: 2}), "GradientAccumulationScheduler: .*data.micro_batch_size"),
        (BatchSizeFinder(), "BatchSizeFinder: .*lmmcl preflight"),
        (LearningRateFinder(), "LearningRateFinder: .*lmmcl sweep"),
        (BackboneFinetuning(), "BackboneFinetuning: .*model.recipe"),
        (ModelPruning("l1_unstructured"), "ModelPruning: .*freezes"),
    ],
)
def test_what_of_lightnings_own_breaks_a_sequence_is_refused_with_the_way_out(
    callback: Callback, instead: str
) -> None:
    with pytest.raises(UserError, match=f"trainer.callbacks: {instead}.*Remove it"):
        check_callbacks([LwF(), callback], fitting=True)
    check_callbacks([LwF(), callback], fitting=False)


def test_what_only_looks_or_is_lightnings_default_passes() -> None:
    class Timer(Callback):
        """A user's own, which is called as Lightning's is."""

    mine: list[Callback] = [HeldOutEvaluation(), LearningRateMonitor(), TQDMProgressBar(), LambdaCallback()]
    check_callbacks([*mine, Timer(), ModelCheckpoint()], fitting=True)
    assert is_default(ModelCheckpoint())
    assert not is_default(LambdaCallback())


def test_what_needs_a_logger_says_so_before_anything_is_measured() -> None:
    with pytest.raises(UserError, match=r"LearningRateMonitor writes to Lightning's loggers.*trainer.logger"):
        check_callbacks([LearningRateMonitor()], fitting=True, logged=False)
    check_callbacks([LearningRateMonitor()], fitting=False, logged=False)


def test_it_is_said_before_a_callback_sets_itself_up(tiny: Path, tmp_path: Path) -> None:
    # Lightning's own would fail in its setup: 'ContinualLMM' object has no attribute 'backbone'.
    with pytest.raises(UserError, match="what trains is the recipe's to say"):
        toy_trainer(callbacks=[BackboneFinetuning()]).fit(toy_module(tiny, tmp_path / "run"), toy_data())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        ([LwF(), LwF()], "2 callbacks are called LwF"),
        ([LwF(name="loss")], "name: loss is that of a column.*Choose another than step, task, .*grad_norm"),
        ([LwF(name="step")], "name: step is that of a column"),
        ([L2SP(name="to/base")], "must be a text without '/', got 'to/base'"),
        ([LwF(name=" ")], "must be a text without '/', got ' '"),
    ],
)
@pytest.mark.parametrize("fitting", [True, False])
def test_a_name_that_would_hide_something_is_refused(
    callbacks: list[Callback], message: str, fitting: bool
) -> None:
    with pytest.raises(UserError, match=message):
        check_callbacks(callbacks, fitting)


def test_an_object_that_learned_in_one_fit_is_not_taken_by_another(tiny: Path, tmp_path: Path) -> None:
    lwf, data = LwF(), toy_data()
    toy_trainer(callbacks=[lwf]).fit(toy_module(tiny, tmp_path / "a"), data)
    with pytest.raises(UserError, match=r"this LwF was part of a fit before.*make a new one"):
        toy_trainer(callbacks=[lwf]).fit(toy_module(tiny, tmp_path / "b"), data)
    assert not (tmp_path / "b").exists()
    # A fit that was refused before anything was learned takes nothing from it.
    again = LwF()
    with pytest.raises(UserError, match="already holds a run"):
        toy_trainer(callbacks=[again]).fit(toy_module(tiny, tmp_path / "a"), data)
    toy_trainer(callbacks=[again]).fit(toy_module(tiny, tmp_path / "b"), data)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
