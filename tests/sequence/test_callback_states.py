"""What callbacks keep as plain Python comes back, also of those that know nothing of stages."""

from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from typing_extensions import override

from lmmcl.errors import UserError
from lmmcl.sequence.callback_states import plain_states, restore_plain_states
from tests.toy import toy_data, toy_module, toy_trainer
from tests.two_processes import Killed, KillerAtStep


class Counter(Callback):
    """Counts micro-batches; a plain callback of Lightning."""

    def __init__(self, state: Any = None) -> None:
        self.count = 0
        self._state = state

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.count += 1

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count} if self._state is None else self._state

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.count = state_dict["count"]


def module_of(*callbacks: Callback) -> Any:
    return SimpleNamespace(stage_callbacks=[], trainer=SimpleNamespace(callbacks=list(callbacks)))


def test_a_plain_callback_goes_on_where_it_was(tiny: Path, tmp_path: Path) -> None:
    def fit(counter: Counter, kill_at: int | None = None, **options: Any) -> int:
        with suppress(Killed):
            trainer = toy_trainer(callbacks=[KillerAtStep(kill_at), counter])
            trainer.fit(toy_module(tiny, tmp_path, **options), toy_data())
        return counter.count

    assert fit(Counter(), kill_at=4) == 4
    assert fit(Counter(), resume=True) == 6


def test_one_without_a_state_adds_nothing_and_one_that_is_gone_is_told_of() -> None:
    assert plain_states(module_of(Callback())) == {"callbacks": {}}
    states = plain_states(module_of(Counter()))
    assert states == {"callbacks": {}, "others": {"Counter": {"count": 0}}}
    with pytest.warns(UserWarning, match=r"trainer.callbacks: Counter has a state .* the state is let go"):
        restore_plain_states(states, module_of())


def test_a_state_of_tensors_says_where_they_belong() -> None:
    with pytest.raises(
        UserError, match=r"Counter.state_dict must hold plain.*tensors of a lmmcl.StageCallback"
    ):
        plain_states(module_of(Counter({"best": torch.ones(2)})))
