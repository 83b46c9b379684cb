"""What would break a sequence is refused before it starts."""

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy
from typing_extensions import override

from lmmcl.callbacks import LwF, WiSEFT
from lmmcl.errors import UserError
from lmmcl.parallel.strategy import check_strategy
from tests.toy import toy_data, toy_module, toy_trainer


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "bf16-true"}, "trainer.precision: bf16-true is refused.*4.8 %.*Use bf16-mixed"),
        ({"precision": "16-true"}, "trainer.precision: 16-true is refused"),
        ({"max_steps": 5}, "trainer.max_steps: .*max_train_samples"),
        ({"max_epochs": 3}, "trainer.max_epochs: .*epochs: N"),
        ({"overfit_batches": 2}, "trainer.overfit_batches"),
        ({"fast_dev_run": True}, "trainer.fast_dev_run: .*max_train_samples"),
        ({"limit_train_batches": 2}, "trainer.limit_train_batches"),
        ({"limit_train_batches": 1}, "trainer.limit_train_batches"),
        ({"limit_val_batches": 0}, "trainer.limit_val_batches: .*use data.max_eval_samples"),
        ({"val_check_interval": 50}, "trainer.val_check_interval: .*HeldOutEvaluation"),
        ({"check_val_every_n_epoch": 2}, "trainer.check_val_every_n_epoch: .*HeldOutEvaluation"),
        ({"gradient_clip_val": -1.0}, "trainer.gradient_clip_val must be a number from 0 .*, got -1.0"),
        ({"gradient_clip_val": float("nan")}, "trainer.gradient_clip_val must be .*, got nan"),
        (
            {"accumulate_grad_batches": 2},
            "trainer.accumulate_grad_batches: .*data.batch_size and data.micro_batch_size",
        ),
        ({"callbacks": [ModelCheckpoint(monitor="loss")]}, "trainer.callbacks: ModelCheckpoint"),
        ({"callbacks": [LwF(), LwF()]}, "trainer.callbacks: 2 callbacks are called LwF; give each a name"),
    ],
)
def test_what_would_break_a_sequence_is_refused_with_the_way_out(
    options: dict[str, Any], message: str, tiny: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        toy_trainer(**options).fit(toy_module(tiny, tmp_path / "run"), toy_data())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (FSDPStrategy(), "FSDPStrategy cannot run a sequence.*FSDP1 refuses clipping.*Use ddp, or fsdp2"),
        (DDPStrategy(find_unused_parameters=True), "find_unused_parameters hides parameters"),
    ],
)
def test_a_strategy_that_cannot_run_a_sequence_is_refused(strategy: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_strategy(strategy)


def test_lightnings_own_checkpoint_is_dropped(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    toy_trainer(callbacks=[WiSEFT(measure_before=False)]).fit(toy_module(tiny, tmp_path / "run"), toy_data())
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


class Stops(Callback):
    """Ends a fit after its first epoch."""

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.should_stop = True


def test_a_fit_that_a_callback_stops_early_says_so(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"stopped in stage 2 before the sequence ended"):
        toy_trainer(callbacks=[Stops()]).fit(toy_module(tiny, tmp_path / "run"), toy_data())


def test_a_run_folder_is_never_mixed_up(tiny: Path, tmp_path: Path) -> None:
    def fit(**options: Any) -> None:
        toy_trainer().fit(toy_module(tiny, tmp_path / "run", **options), toy_data())

    with pytest.raises(UserError, match=r"holds no run to go on with"):
        fit(resume=True)
    fit()
    with pytest.raises(
        UserError, match=r"already holds a run. Go on with it by --ckpt_path last, or .*--run"
    ):
        fit()
    with pytest.raises(UserError, match=r"begun with another config: model.lr was 0.01, is 0.1"):
        fit(resume=True, lr=0.1)
    fit(resume=True, checkpoint_every_n_steps=7)
