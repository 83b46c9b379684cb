"""Replay against its formula: one mean over batch and buffer, and nothing while there is no past."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from safetensors.torch import load_file
from torch import Tensor
from typing_extensions import override

from lmmcl import ContinualLMM, TaskSequenceDataModule
from lmmcl.callbacks import Replay
from lmmcl.data.batches.batch import IGNORED, Batch
from lmmcl.errors import UserError
from lmmcl.outputs.token_outputs import TokenOutputs
from tests.callbacks.test_data_mix import Seen
from tests.toy import toy_module, toy_task, toy_trainer


def fit(checkpoint: Path, run: Path, *callbacks: Callback, **options: Any) -> dict[str, dict[str, Tensor]]:
    tasks = [toy_task("first", 0, max_train_samples=8), toy_task("second", 1, max_train_samples=8)]
    data = TaskSequenceDataModule(tasks, batch_size=4, **options)
    toy_trainer(callbacks=list(callbacks)).fit(toy_module(checkpoint, run), data)
    return {p.name: load_file(p / "weights.safetensors") for p in (run / "stages").iterdir()}


def losses(run: Path) -> list[float]:
    lines = (run / "logs" / "metrics.csv").read_text().splitlines()
    column = lines[0].split(",").index("loss")
    return [float(line.split(",")[column]) for line in lines[1:]]


class Check(Replay):
    """Counts the loss of every step itself, from full logits."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, name="Replay")
        self.found: dict[int, tuple[float, int]] = {}

    @override
    def token_loss(self, module: ContinualLMM, batch: Batch, outputs: TokenOutputs) -> None:
        assert batch.labels is not None
        with torch.no_grad():
            logits = module.logits(outputs.hidden)
        wanted = batch.labels[:, 1:][batch.labels[:, 1:] != IGNORED]
        loss = -logits.log_softmax(-1).gather(-1, wanted[:, None]).sum()
        before, tokens = self.found.get(step := module.sequence.position.global_step, (0.0, 0))
        self.found[step] = before + float(loss), tokens + len(wanted)


def test_without_a_past_the_first_task_is_plain_and_the_loss_is_one_mean_over_batch_and_buffer(
    tiny: Path, tmp_path: Path
) -> None:
    check, seen = Check(buffer=3, per_step=2), Seen()
    plain = fit(tiny, tmp_path / "plain")
    found = fit(tiny, tmp_path / "run", check, seen, micro_batch_size=4)
    assert all(torch.equal(found["01-first"][name], tensor) for name, tensor in plain["01-first"].items())
    assert any(not torch.equal(found["02-second"][name], t) for name, t in plain["02-second"].items())
    assert [len(ids) for ids in seen.steps] == [4, 4, 6, 6]
    replayed = [[name for name in ids if name.startswith("Replay/first/toy-0-")] for ids in seen.steps]
    assert [len(names) for names in replayed] == [0, 0, 2, 2]
    assert len({name for names in replayed for name in names}) == 3  # all three, in turns
    logged = losses(tmp_path / "run")
    expected = [total / tokens for _, (total, tokens) in sorted(check.found.items())]
    assert logged == pytest.approx(expected, rel=1e-5)


def test_micro_batches_change_rounding_only(tiny: Path, tmp_path: Path) -> None:
    one = fit(tiny, tmp_path / "one", Replay(buffer=4))["02-second"]
    seen = Seen()
    other = fit(tiny, tmp_path / "other", Replay(buffer=4), seen, micro_batch_size=1)["02-second"]
    assert [len(ids) for ids in seen.steps] == [4, 4, 8, 8]
    assert all(torch.allclose(one[name], other[name], atol=1e-4) for name in one)


def test_the_general_set_joins_from_the_first_step_on(tiny: Path, tmp_path: Path) -> None:
    seen = Seen()
    fit(tiny, tmp_path, Replay(buffer=0.25, per_step=1, begin_with="general", begin_samples=2), seen)
    joined = [next(name for name in ids if name.startswith("Replay/")) for ids in seen.steps]
    assert all(name.startswith("Replay/general/general-train-") for name in joined[:2])
    assert joined[0] != joined[1]


def test_what_is_saved_is_which_rows_are_kept(tiny: Path, tmp_path: Path) -> None:
    fit(tiny, tmp_path, Replay(buffer=0.5))
    last = max((tmp_path / "last").iterdir())
    state = json.loads((last / "manifest.json").read_text())["state"]["callbacks"]["Replay"]
    assert state["passed"] == [["first", 8], ["second", 8]]
    assert [[task, len(set(places))] for task, places in state["kept"]] == [["first", 4], ["second", 4]]


def test_a_value_out_of_range_is_named() -> None:
    with pytest.raises(UserError, match=r"Replay\.per_step"):
        Replay(per_step=0)
    with pytest.raises(UserError, match=r"Replay\.buffer"):
        Replay(buffer=2.5)
