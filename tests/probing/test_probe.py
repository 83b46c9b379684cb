"""What all probes promise: they only look, and a kill leaves neither a gap nor a double in what they saw."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from typing_extensions import override

from lmmcl.data.batches.batch import IGNORED
from lmmcl.data.row import Row
from lmmcl.errors import UserError
from lmmcl.probing.probe import answer_batches, first_answer_tokens, held_out_rows, is_power_of_ten
from tests.callbacks.probed import probed, probed_fit, probes
from tests.toy import ToySource, toy_data, toy_task

KEPT = ("stages", "predictions", "matrix", "logs/metrics")


def files(run: Path, *first: str) -> dict[str, bytes]:
    found = {str(path.relative_to(run)): path for path in sorted(run.rglob("*")) if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if name.startswith(first)}


def test_a_run_with_probes_has_the_bytes_of_one_without(tiny: Path, tmp_path: Path) -> None:
    probed_fit(tiny, tmp_path, [])
    bare = files(tmp_path, *KEPT)
    assert len(bare) > 10 and bare == files(probed(tiny).path, *KEPT)


def test_a_kill_in_the_middle_of_a_stage_leaves_neither_gap_nor_double(tiny: Path, tmp_path: Path) -> None:
    probed_fit(tiny, tmp_path, probes(), kill_at=4)  # after a reading of the second task's first step
    probed_fit(tiny, tmp_path, probes(), resume=True)
    assert files(tmp_path, "probes", *KEPT) == files(probed(tiny).path, "probes", *KEPT)


def test_every_probe_reads_the_base_model_and_every_stage(tiny: Path) -> None:
    run = probed(tiny)
    stages = [(0, "00-base", 0), (1, "01-first", 3), (2, "02-second", 6)]
    for name in ("NumberTokenBias", "OutputShift", "OutputShift KL", "LayerContribution", "WeightDrift"):
        assert [(row.stage, row.name, row.step) for row in run.log(name).at_stages] == stages, name


def test_powers_of_ten() -> None:
    assert [step for step in range(1002) if is_power_of_ten(step)] == [1, 10, 100, 1000]


@pytest.mark.parametrize("name", ["OutputShift", "OutputShift KL", "LayerContribution", "WeightDrift"])
def test_the_base_model_is_exactly_nothing_away_from_itself(tiny: Path, name: str) -> None:
    base, *later = probed(tiny).log(name).at_stages
    assert set(base.values.values()) == {0.0}
    assert all(any(value > 0 for value in row.values.values()) for row in later)


class WithoutDev(ToySource):
    """A small file whose split left no row for dev."""

    @override
    def split(self, name: str) -> Sequence[Row]:
        if name == "dev":
            raise UserError("no rows for dev")
        return super().split(name)


def test_held_out_rows_are_dealt_in_turns_and_tasks_without_dev_rows_are_named() -> None:
    data = toy_data()
    data.held_out[:] = [
        toy_task("a", 3),
        replace(toy_task("small", 4), source=WithoutDev(4)),
        toy_task("b", 5),
    ]
    module: Any = SimpleNamespace(data=data)
    with pytest.warns(UserWarning, match="Mine leaves out small, which must have rows for dev.$"):
        dealt = held_out_rows(module, 5, "Mine")
    rows = {
        task.name: [row.id for row in data.eval_rows(task, "dev", 5)]
        for task in data.held_out
        if task.name != "small"
    }
    turns = [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2)]
    assert [(task.name, row.id) for task, row in dealt] == [(name, rows[name][i]) for name, i in turns]
    del data.held_out[0], data.held_out[1]
    with pytest.warns(UserWarning, match="it is off"):
        assert held_out_rows(module, 5, "Mine") == []


def test_a_batch_has_a_picture_at_every_stage_and_the_first_answer_tokens_only(tiny: Path) -> None:
    module = probed(tiny).module
    rows = [row for row in ToySource(0, text=True).split("train") if not row.images][:2]
    collator = module.data.collator
    for always in (True, False):
        collator.always_image = always
        (batch,) = answer_batches(module, rows, 2, 1)
        assert "pixel_values" in batch.inputs and collator.always_image is always
        assert batch.labels is not None
        assert (batch.labels != IGNORED).sum(1).tolist() == [1, 1, 0], "the last one fills up"


def test_only_the_first_answer_tokens_of_each_sample_are_left() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 9, (6, 12), generator=generator)
    labels[torch.rand(6, 12, generator=generator) < 0.4] = IGNORED
    found, expected = first_answer_tokens(labels, 3), labels.tolist()
    for row in expected:
        answer = [i for i, token in enumerate(row) if token != IGNORED]
        for i in answer[3:]:
            row[i] = IGNORED
    assert found.tolist() == expected
