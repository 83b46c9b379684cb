"""The cost of a run: sums per stage and phase, no step counted twice whatever was killed."""

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import lmmcl.sequence.resume
import lmmcl.sequence.task_sequence
from lmmcl.callbacks import HeldOutEvaluation
from lmmcl.cost import CostLog, StageCost, read_cost, total_cost
from lmmcl.errors import UserError
from lmmcl.sequence.cost_meter import CostMeter
from tests.toy import SIZES, toy_data, toy_module, toy_trainer

pytestmark = pytest.mark.usefixtures("no_report")


def cost(stage: int = 1, phase: Any = "train", seconds: float = 1.0, samples: int = 8) -> StageCost:
    return StageCost(stage, f"0{stage}-t", phase, seconds, samples, 10 * samples, 100 * samples, 5)


def log(run: Path, position: str | None = None) -> CostLog:
    held = CostLog(run / "logs", write=True)
    held.begin(position)
    return held


def test_rows_of_a_phase_are_summed_and_memory_is_the_largest(tmp_path: Path) -> None:
    held = log(tmp_path)
    held.put([cost(0, "evaluate"), cost()], "a")
    held.put([StageCost(1, "01-t", "train", 0.5, 3, 30, 300, 9), cost(1, "evaluate")], "b")
    assert read_cost(tmp_path) == [
        cost(0, "evaluate"),
        StageCost(1, "01-t", "train", 1.5, 11, 110, 1100, 9),
        cost(1, "evaluate"),
    ]
    total = total_cost(read_cost(tmp_path))
    assert (total.seconds, total.samples, total.flops, total.peak_memory_bytes) == (3.5, 27, 2700, 9)


def test_a_resume_drops_what_was_entered_after_its_checkpoint(tmp_path: Path) -> None:
    held = log(tmp_path)
    for name in "abcd":
        held.put([cost()], name)
    # Killed between the entry under d and its checkpoint, and even that of c is damaged: b is the newest whole one.
    for newest, kept in (("d", 4), ("c", 3), ("b", 2)):
        again = log(tmp_path, newest)
        again.put([], newest)
        assert read_cost(tmp_path)[0].samples == 8 * kept
    again = log(tmp_path, "b")
    again.put([cost()], "c")
    assert read_cost(tmp_path)[0].samples == 8 * 3


def test_the_file_stays_small_and_loses_nothing(tmp_path: Path) -> None:
    held = log(tmp_path)
    for i in range(100):
        held.put([cost(samples=i)], f"{i:03}")
        if i % 7 == 0:
            held = log(tmp_path, f"{i:03}")
    rows = list(csv.DictReader((tmp_path / "logs/cost.csv").read_text().splitlines()))
    assert len(rows) <= 4
    assert sum(int(row["samples"]) for row in rows) == read_cost(tmp_path)[0].samples == sum(range(100))


def test_a_new_run_begins_anew_and_other_processes_write_nothing(tmp_path: Path) -> None:
    log(tmp_path).put([cost()], "a")
    log(tmp_path).put([cost()], "a")
    assert read_cost(tmp_path)[0].samples == 8
    other = CostLog(tmp_path / "other" / "logs", write=False)
    other.begin(None)
    other.put([cost()], "a")
    assert read_cost(tmp_path / "other") == []


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    log(tmp_path).put([cost()], "a")
    (tmp_path / "logs/cost.csv").write_text("stage,name\n1,x\n")
    with pytest.raises(UserError, match="is damaged"):
        read_cost(tmp_path)


def test_operations_beyond_what_a_tensor_counts_are_not_lost() -> None:
    meter = CostMeter()
    meter._module = SimpleNamespace(device=torch.device("cpu"))  # type: ignore[assignment]
    parts: list[int | torch.Tensor] = [
        3,
        torch.tensor((1 << 62) + 5),
        torch.tensor((1 << 62) + 7),
        torch.tensor(1 << 62),
    ]
    for part in parts:
        meter._add_flops(part)
    meter._switch((1, "train"))
    assert meter._spent[0, "evaluate"].flops == 3 * (1 << 62) + 15
    meter._add_flops(torch.tensor(2))
    meter._switch((1, "evaluate"))
    assert meter._spent[1, "train"].flops == 2


class Killed(BaseException):
    """Stands for SIGKILL."""


def fit(checkpoint: Path, run: Path, at: int | None, patch: pytest.MonkeyPatch, resume: bool = False) -> int:
    """Trains the toy sequence, killed before or after its n-th save; returns how many moments there were."""
    save, moments = lmmcl.sequence.resume.save, [0]

    def tick() -> None:
        moments[0] += 1
        if moments[0] == at:
            raise Killed

    def watched_save(*arguments: Any) -> None:
        tick()
        save(*arguments)
        tick()

    patch.setattr(lmmcl.sequence.task_sequence, "save", watched_save)
    module = toy_module(checkpoint, run, checkpoint_every_n_steps=2, resume=resume)
    try:
        toy_trainer(callbacks=[HeldOutEvaluation(canary_every_n_steps=2)]).fit(module, toy_data())
    except Killed:
        assert at is not None
    return moments[0]


def work(run: Path) -> list[tuple[int, str, int, int, int]]:
    """What does not depend on the clock."""
    return [(one.stage, one.phase, one.samples, one.tokens, one.flops) for one in read_cost(run)]


@pytest.fixture(scope="module")
def whole(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    run = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        return run, fit(tiny, run, None, patch)


def test_a_run_counts_what_it_trained_on_and_answered(whole: tuple[Path, int]) -> None:
    found = read_cost(whole[0])
    assert [(one.stage, one.name, one.phase) for one in found] == [
        (0, "00-base", "evaluate"),
        (1, "01-first", "train"),
        (1, "01-first", "evaluate"),
        (2, "02-second", "train"),
        (2, "02-second", "evaluate"),
    ]
    for one in found:
        assert one.samples == (SIZES["train"] if one.phase == "train" else 3 * SIZES["test"])
        assert one.tokens > one.samples
        assert one.flops > 10_000 * one.tokens
        assert one.seconds > 0 and one.peak_memory_bytes > 50_000_000
    # Forward and backward of as many tokens, and the canary: more than twice the price of a forward.
    price = {one.phase: one.flops / one.tokens for one in found}
    assert price["train"] > 2 * price["evaluate"]


@pytest.mark.parametrize("at", [5, 13, 16])
def test_killed_at_any_checkpoint_and_resumed_a_run_has_cost_the_same(
    at: int, tiny: Path, whole: tuple[Path, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert whole[1] >= at
    fit(tiny, tmp_path / "run", at, monkeypatch)
    fit(tiny, tmp_path / "run", None, monkeypatch, resume=True)
    assert work(tmp_path / "run") == work(whole[0])


def test_a_finished_run_that_is_resumed_costs_nothing_more(
    tiny: Path, whole: tuple[Path, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_cost(whole[0])
    fit(tiny, whole[0], None, monkeypatch, resume=True)
    assert read_cost(whole[0]) == before
