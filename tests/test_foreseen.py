"""What is said of steps, rows and states before a run is what the run then has."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lmmcl import StageCallback, TaskSequenceDataModule
from lmmcl.callbacks import (
    DER,
    DataMix,
    HeldOutEvaluation,
    LayerContribution,
    OutputShift,
    Replay,
    WeightDrift,
)
from lmmcl.errors import UserError
from lmmcl.foreseen import foresee
from lmmcl.mitigation import Mitigation
from lmmcl.preflight.memory import Place
from lmmcl.preflight.run import _samples_of_step
from lmmcl.preflight.steps import check_steps
from lmmcl.preflight.timing import measure_pace
from lmmcl.report.plan import memory_of
from lmmcl.sequence.disk import widths_of
from tests.callbacks.test_data_mix import Seen
from tests.toy import toy_data, toy_module, toy_task, toy_trainer

GENERAL = {"task": "attributes", "max_train_samples": 6}
WAYS: dict[str, list[Mitigation]] = {
    "mixing": [DataMix(GENERAL)],
    "replay": [Replay(buffer=3, per_step=2)],
    "balanced replay": [Replay(0.3, "balanced", begin_with="general", begin_samples=2)],
    "all": [DataMix(GENERAL), Replay(buffer=0.2), DER(buffer=2, top_k=4)],
}


def data_of(micro_batch_size: int | None = None) -> TaskSequenceDataModule:
    tasks = [
        toy_task("first", 0, max_train_samples=10),
        toy_task("second", 1, max_train_samples=8, epochs=2),
        toy_task("third", 2, max_train_samples=7),
    ]
    return TaskSequenceDataModule(tasks, batch_size=4, micro_batch_size=micro_batch_size)


@pytest.mark.parametrize("way", ["balanced replay", "all"])
def test_steps_and_samples_are_those_of_the_run_and_so_are_the_rows(
    way: str, tiny: Path, tmp_path: Path
) -> None:
    mitigations, data = WAYS[way], data_of()
    before = [foresee(data, index, mitigations) for index in range(3)]
    expected: list[list[str]] = []
    module = toy_module(tiny, tmp_path)
    data.attach(module.processor, module.max_length)
    for index, ahead in enumerate(before):
        for epoch in range(data.tasks[index].epochs):
            data.begin(index, ahead.rows, epoch, 0, ahead.joined)
            expected += [[name for name in batch.ids if name] for batch in data.loader(0, 1)]
    seen = Seen()
    toy_trainer(callbacks=[*mitigations, seen]).fit(module, data_of())
    assert seen.steps == expected
    assert len(expected) == sum(ahead.steps for ahead in before)
    assert max(map(len, expected)) == max(ahead.samples for ahead in before)
    assert _samples_of_step(data, Place(callbacks=mitigations)) == max(ahead.samples for ahead in before)
    # Once more with what the run left in the mitigations: the plan of a resumed run says the same.
    again = [foresee(data, index, mitigations) for index in range(3)]
    assert [(one.steps, one.samples) for one in again] == [(one.steps, one.samples) for one in before]


def test_preflight_says_what_is_mixed_and_what_joins(tiny: Path, tmp_path: Path) -> None:
    data = data_of()
    mixed = [one.text for one in check_steps(data, 1, WAYS["mixing"])]
    assert mixed[0] == "20 rows of 10, mixed, 1 epoch: 5 steps of 4 samples"
    assert mixed[-1].startswith("17 steps in all")
    joined = [one.text for one in check_steps(data_of(micro_batch_size=2), 1, WAYS["replay"])]
    assert joined[0] == "10 rows, 1 epoch: 3 steps of 4 samples, 2 forwards each"
    assert joined[1] == "8 rows, 2 epochs: 4 steps of 4 samples and 2 that join, 3 forwards each"
    place = Place(bf16=False, callbacks=WAYS["all"])
    pace = measure_pace(toy_module(tiny, tmp_path), data_of(), place, torch.device("cpu"), 2)
    assert all(pace.steps[task.name] > 0 for task in data.tasks)


def test_a_set_that_is_not_there_is_told_by_preflight() -> None:
    found = list(check_steps(data_of(), 1, [DataMix("generl")]))
    assert found[0].level == "failure" and "DataMix.data: there is no task 'generl'" in found[0].text
    with pytest.raises(UserError, match="generl"):
        foresee(data_of(), 0, [DataMix("generl")])


@pytest.mark.parametrize("recipe", ["sa_proj", "llm.embed+head"])
def test_the_states_of_probes_are_counted(recipe: str, tiny: Path, tmp_path: Path) -> None:
    shift = OutputShift(samples=4, answer_tokens=1, answers=False)
    probes = [shift, LayerContribution(samples=4, answer_tokens=1), WeightDrift()]
    canary = HeldOutEvaluation(canary_every_n_steps=2, canary_samples=4)
    module = toy_module(tiny, tmp_path, recipe=recipe)
    data = toy_data(batch_size=20, max_eval_samples=2)
    data.tasks[1:] = []
    toy_trainer(callbacks=[*probes, canary]).fit(module, data)
    widths = widths_of(module, [module.trained_by(task) for task in module.data.tasks])
    assert bool(widths.head) == (recipe != "sa_proj")
    told = canary.state_bytes(widths)
    assert (
        0 < _bytes([canary]) <= told < 8 * _bytes([canary])
    )  # short answers have fewer tokens than it may keep
    assert HeldOutEvaluation(canary_every_n_steps=0).state_bytes(widths) == 0
    assert memory_of(module).copies == _bytes(probes) + told
    files = max((tmp_path / "last").iterdir()).rglob("*.safetensors")
    saved = {key: value for path in files for key, value in load_file(path).items()}
    written = sum(t.numel() * t.element_size() for key, t in saved.items() if key.startswith("callback/"))
    foretold = sum(one.state_bytes(widths, on_disk=True) for one in probes)
    assert written == foretold + _bytes([canary])


def _bytes(callbacks: Sequence[StageCallback]) -> int:
    return sum(t.numel() * t.element_size() for one in callbacks for t in one.tensors.values())
