"""The promise of the engine: stopped anywhere, a run goes on and ends with the same events and the same bytes."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from typing_extensions import override

import lmmcl.sequence.task_sequence
from lmmcl import ContinualLMM, Task
from lmmcl.callbacks import HeldOutEvaluation, LwF, WiSEFT, held_out_evaluation
from lmmcl.mitigation import Mitigation, StageCallback
from lmmcl.position import Position
from tests.toy import toy_data, toy_module, toy_trainer


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the engine may catch it."""


class Killer(StageCallback):
    """Ends the process at its n-th event: a hook, or the moment before or after a checkpoint is written."""

    def __init__(self, at: int | None) -> None:
        super().__init__()
        self._at = at
        self._count = 0
        self.events: list[str] = []

    def tick(self, event: str) -> None:
        self.events.append(event)
        self._count += 1
        if self._count == self._at:
            raise Killed(event)

    @override
    def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        self.tick(f"start {task.name}")

    @override
    def on_task_end(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        self.tick(f"end {task.name}")

    @override
    def on_stage_end(
        self, trainer: Trainer, module: ContinualLMM, task: Task | None, scores: Mapping[str, float]
    ) -> None:
        self.tick(f"stage {task.name if task else 'base'} {sorted(scores.items())}")

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.tick(f"batch {trainer.global_step}")

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.tick(f"epoch {trainer.current_epoch}")

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.tick("fit")


def fit(checkpoint: Path, run: Path, at: int | None, patch: pytest.MonkeyPatch, **options: Any) -> list[str]:
    """Trains the toy sequence; returns the events up to the end or the kill."""
    killer = Killer(at)
    save = lmmcl.sequence.resume.save

    def watched_save(*arguments: Any) -> None:
        killer.tick("before save")
        save(*arguments)
        killer.tick("after save")

    patch.setattr(lmmcl.sequence.task_sequence, "save", watched_save)
    callbacks = [killer, HeldOutEvaluation(canary_every_n_steps=2), LwF(), WiSEFT(alpha=0.3)]
    module = toy_module(checkpoint, run, checkpoint_every_n_steps=2, **options)
    with contextlib.suppress(Killed):
        toy_trainer(callbacks=callbacks).fit(module, toy_data())
    return killer.events


def results(run: Path) -> dict[str, bytes]:
    """Everything that must be equal, by path; ``last`` too, since it holds the optimizer and the anchors."""
    files = {str(path.relative_to(run)): path for path in sorted(run.rglob("*")) if path.is_file()}
    with_times = ("logs/timing.csv", "logs/cost.csv")
    return {name: path.read_bytes() for name, path in files.items() if name not in with_times}


@pytest.fixture(scope="module")
def whole(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[str]]]:
    run = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        yield run, fit(tiny, run, None, patch)


EVENTS = 42
ARTEFACTS = ("summary.json", "report.html", "figures/", "tables/")
"""What is made at the end of all else that is compared, and takes longer than the run."""


def test_the_events_of_a_run(whole: tuple[Path, list[str]]) -> None:
    run, events = whole
    assert len(events) == EVENTS
    plain = [e.split(" [")[0] for e in events if "save" not in e]
    assert plain == [
        *["stage base", "start first", "fit", "batch 1", "batch 2", "batch 3", "epoch 0"],
        *["end first", "stage first", "start second", "batch 4", "batch 5", "batch 6", "epoch 1"],
        *["end second", "stage second"],
    ]
    assert sorted(p.name for p in (run / "stages").iterdir()) == ["00-base", "01-first", "02-second"]


@pytest.mark.parametrize("at", range(1, EVENTS + 1))
def test_killed_at_any_event_and_resumed_the_run_ends_with_the_same_events_and_bytes(
    at: int, tiny: Path, whole: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, events = whole
    drawn = at % 7 == 0
    if not drawn:
        monkeypatch.setattr(held_out_evaluation, "write_artefacts", lambda run: None)
    before = fit(tiny, tmp_path / "run", at, monkeypatch)
    started = (tmp_path / "run" / "last").exists() and any((tmp_path / "run" / "last").iterdir())
    after = fit(tiny, tmp_path / "run", None, monkeypatch, resume=(tmp_path / "run" / "config.json").exists())
    assert started or at == 1
    expected = {n: data for n, data in results(run).items() if drawn or not n.startswith(ARTEFACTS)}
    assert results(tmp_path / "run") == expected
    # What came before the kill and what came after it cover the whole run: nothing is skipped, nothing invented.
    real = [e for e in events if "save" not in e and e != "fit"]
    assert before == events[:at]
    tail = [e for e in after if "save" not in e and e != "fit"]
    assert tail == real[len(real) - len(tail) :]
    assert len(tail) + len([e for e in before if "save" not in e and e != "fit"]) >= len(real)


def test_positions_sort_by_name_as_they_follow_one_another() -> None:
    order = [
        Position(),
        Position(0, "write"),
        Position(1, "train", 0, 0),
        Position(1, "train", 3, 3),
        Position(1, "end", 3, 3),
        Position(1, "evaluate", 3, 3),
        Position(1, "write", 3, 3),
        Position(2, "train", 0, 3),
    ]
    names = [position.name for position in order]
    assert names == sorted(names)


def test_a_change_of_a_frozen_tensor_is_an_error(tiny: Path, tmp_path: Path) -> None:
    class Vandal(Mitigation):
        @override
        def on_task_end(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
            with torch.no_grad():
                next(p for n, p in module.model.named_parameters() if n not in module.trained).view(-1)[
                    0
                ] += 1

    with pytest.raises(RuntimeError, match="1 tensors changed that the recipe froze"):
        toy_trainer(callbacks=[Vandal()]).fit(toy_module(tiny, tmp_path / "run"), toy_data())
    assert not (tmp_path / "run" / "stages" / "01-first").exists()
