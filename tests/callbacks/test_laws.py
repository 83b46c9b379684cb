"""The five laws of a mitigation, on one process, for every row of the table in laws.py."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Callback, Trainer
from torch import Tensor
from typing_extensions import override

import lmmcl.callbacks
from lmmcl import ContinualLMM, Mitigation, StageCallback, Task
from lmmcl.callbacks import EMA, L2SP, LwF, WiSEFT
from tests.callbacks.laws import (
    MIDDLE_OF_THE_LAST_STAGE,
    ROUNDING,
    ROWS,
    STAGES,
    Row,
    apart,
    law_base,
    law_fit,
    law_weights,
    together,
)
from tests.tiny_run import command

Stages = dict[str, dict[str, Tensor]]
LABELS = [row.label for row in ROWS]


def each(rows: Sequence[Row]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", rows, ids=[row.label for row in rows])


each_row = each(ROWS)


class Runs:
    """Runs of the laws' sequence, each made once."""

    def __init__(self, folder: Path, checkpoint: Path) -> None:
        self.folder = folder
        self.checkpoint = checkpoint
        self.modules: dict[str, ContinualLMM] = {}

    def run(self, name: str, make: Callable[[], Iterable[Callback]]) -> Path:
        """The folder of a whole run with the callbacks that ``make`` makes."""
        run = self.folder / name
        if name not in self.modules:
            self.modules[name] = law_fit(self.checkpoint, run, make())
        return run

    def weights(self, name: str, make: Callable[[], Iterable[Callback]] = list) -> Stages:
        return law_weights(self.run(name, make))

    def alone(self, row: Row) -> Path:
        return self.run(row.label, lambda: [row.make(row.at_work)])

    def base(self, row: Row | None = None) -> dict[str, Tensor]:
        return law_base(self.checkpoint, row)


@pytest.fixture(scope="module")
def runs(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("laws"), tiny)


def same(one: Stages, other: Stages) -> bool:
    return all(
        one[stage].keys() == other[stage].keys()
        and all(torch.equal(one[stage][name], other[stage][name]) for name in one[stage])
        for stage in STAGES
    )


def contents(run: Path) -> dict[str, bytes]:
    """All files of a run but those with times."""
    files = {str(path.relative_to(run)): path for path in sorted(run.rglob("*")) if path.is_file()}
    with_times = ("logs/timing.csv", "logs/cost.csv")
    return {name: path.read_bytes() for name, path in files.items() if name not in with_times}


def test_every_mitigation_has_a_row() -> None:
    shipped = {getattr(lmmcl.callbacks, name) for name in lmmcl.callbacks.__all__}
    assert {row.method for row in ROWS} == {kind for kind in shipped if issubclass(kind, Mitigation)}
    assert len(set(LABELS)) == len(ROWS)


@each([row for row in ROWS if row.plain])
def test_at_work_it_changes_what_is_learned(row: Row, runs: Runs) -> None:
    plain, found = runs.weights("plain"), law_weights(runs.alone(row))
    # Much more than rounding, so that the comparisons on two processes would notice a wrong factor.
    assert apart(found["03-third"], plain["03-third"], runs.base()) > 30 * ROUNDING


@each([row for row in ROWS if not row.plain])
def test_what_no_plain_weights_can_do_is_learned_in_every_tensor(row: Row, runs: Runs) -> None:
    began = runs.base(row)
    for name, tensor in law_weights(runs.alone(row))["03-third"].items():
        assert float((tensor - began[name]).norm() / tensor.norm()) > 10 * ROUNDING, name


@each([row for row in ROWS if row.at_zero is not None])
def test_strength_zero_is_plain_fine_tuning_bit_for_bit(row: Row, runs: Runs) -> None:
    found = runs.weights(f"zero-{row.label}", lambda: [row.make(row.at_zero or {})])
    assert same(found, runs.weights("plain"))


@each([row for row in ROWS if row.at_infinity is not None])
def test_strength_infinity_leaves_the_base_weights_byte_for_byte(row: Row, runs: Runs) -> None:
    base = runs.base()
    found = runs.weights(f"infinity-{row.label}", lambda: [row.make(row.at_infinity or {})])
    assert all(torch.equal(t, base[name]) for tensors in found.values() for name, t in tensors.items())


@each_row
def test_killed_anywhere_and_resumed_it_ends_with_the_bytes_of_an_uninterrupted_run(
    row: Row, runs: Runs
) -> None:
    assert_resumes(lambda: [row.make(row.at_work)], runs.alone(row), runs)


def assert_resumes(make: Callable[[], Iterable[Callback]], whole: Path, runs: Runs) -> None:
    """Killed in the middle of the first stage, before the first step of the last, in its middle, and at its end."""
    run = runs.folder / f"killed-{whole.name}"
    moments: list[int | str] = [1, 6, MIDDLE_OF_THE_LAST_STAGE, "end"]
    for turn, at in enumerate(moments):
        law_fit(runs.checkpoint, run, make(), at, resume=turn > 0)
        assert not (run / "stages" / "03-third").exists()
    law_fit(runs.checkpoint, run, make(), resume=True)
    assert contents(run) == contents(whole)


@each_row
def test_frozen_tensors_have_the_same_bytes_after_the_run(row: Row, runs: Runs) -> None:
    stages, base = law_weights(runs.alone(row)), runs.base(row)
    held = law_weights(runs.alone(row), plain=False)["03-third"]
    module = runs.modules[row.label]
    for name, parameter in module.parameters_by_name().items():
        if name not in stages["03-third"] and name not in held:
            assert torch.equal(parameter, base[name]), name
    second = stages["02-second"].keys() - stages["01-first"].keys()
    assert second and all(torch.equal(stages["02-second"][n], t) for n, t in stages["01-first"].items())


@each_row
def test_between_others_that_do_nothing_it_does_what_it_does_alone(row: Row, runs: Runs) -> None:
    def others(place: str) -> list[Callback]:
        return [
            other.method(**other.at_zero, name=f"{other.label} {place}")
            for other in ROWS
            if other.at_zero is not None and other != row
        ]

    def stack() -> Sequence[Callback]:
        return [*others("before"), row.make(row.at_work), *others("after")]

    assert same(runs.weights(f"{row.label}-between", stack), law_weights(runs.alone(row)))


def everything() -> list[Callback]:
    return [row.make(row.at_work) for row in together(ROWS)]


def test_all_at_once_log_a_term_each_and_resume_to_the_same_bytes(runs: Runs) -> None:
    whole = runs.run("everything", everything)
    head = (whole / "logs" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"LwF", "L2SP", "EWC", "online-EWC", "MAS", "SI"} <= set(head)
    assert_resumes(everything, whole, runs)


def test_two_penalties_pull_with_the_sum_of_their_gradients(runs: Runs) -> None:
    two = runs.weights("two", lambda: [L2SP(0.1), L2SP(0.2, name="more")])
    one = runs.weights("one", lambda: [L2SP(0.3)])
    assert all(apart(two[stage], one[stage], runs.base()) < ROUNDING for stage in STAGES)
    plain = runs.weights("plain")
    assert all(apart(two[stage], plain[stage], runs.base()) > 30 * ROUNDING for stage in STAGES)


def test_what_acts_at_the_end_of_a_task_acts_in_the_order_listed(runs: Runs) -> None:
    seen: dict[str, dict[str, Tensor]] = {}

    class Look(StageCallback):
        """Keeps the weights before the first task's end is acted on."""

        @override
        def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
            seen.setdefault("start", {n: p.detach().clone() for n, p in module.trained_parameters().items()})

        @override
        def on_task_end(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
            seen.setdefault("end", {n: p.detach().clone() for n, p in module.trained_parameters().items()})

    def wise() -> WiSEFT:
        return WiSEFT(0.3, measure_before=False)

    def ema() -> EMA:
        return EMA(0.4, measure_before=False)

    average = runs.weights("average", lambda: [ema()])["01-first"]
    merged = runs.weights("average-merged", lambda: [Look(), ema(), wise()])["01-first"]
    for name, tensor in average.items():
        torch.testing.assert_close(merged[name], 0.3 * seen["start"][name] + 0.7 * tensor)
    assert any(not torch.equal(seen["end"][name], tensor) for name, tensor in average.items())


def test_one_yaml_with_all_of_them_does_what_python_does(runs: Runs, tmp_path: Path) -> None:
    callbacks = [
        {"class_path": row.method.__name__, "init_args": {**row.at_work, "name": row.label}}
        for row in together(ROWS)
    ]
    config = {
        "model": {"path": str(runs.checkpoint), "lr": 0.01, "recipe": ["sa_proj", "mlp"]},
        "data": {
            "tasks": [{"task": "count", "max_train_samples": 8, "epochs": 2}],
            "batch_size": 4,
            "held_out": ["chart"],
        },
        "trainer": {"precision": "32-true", "callbacks": callbacks},
        "run": str(tmp_path / "run"),
    }
    (tmp_path / "all.yaml").write_text(yaml.safe_dump(config))
    code, _, errors = command("fit", "--config", tmp_path / "all.yaml", "--data.max_eval_samples", 2)
    assert code == 0, errors
    written = json.loads((tmp_path / "run" / "config.json").read_text())["callbacks"]
    made = [
        callback for callback in written if callback[0].split(".")[-1] in {r.method.__name__ for r in ROWS}
    ]
    assert [callback[1]["name"] for callback in made] == [row.label for row in together(ROWS)]
    for row, (_, settings) in zip(together(ROWS), made, strict=True):
        assert {key: settings[key] for key in row.at_work} == row.at_work


def test_an_average_that_begins_as_the_teacher_does_is_a_copy_of_its_own_after_a_resume(
    runs: Runs, tmp_path: Path
) -> None:
    """Saved before the first step, both are references to one stage; only one of them may move."""
    law_fit(runs.checkpoint, tmp_path, [LwF(), EMA(0.4)], kill_at=3)
    lwf, ema = LwF(), EMA(0.4)
    law_fit(runs.checkpoint, tmp_path, [lwf, ema], kill_at=4, resume=True)
    assert lwf.tensors.keys() == ema.tensors.keys() and lwf.tensors
    assert any(not torch.equal(lwf.tensors[name], ema.tensors[name]) for name in lwf.tensors)
