"""WiSE-FT's limits, its merge, and its rows of the matrix."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from safetensors.torch import load_file
from torch import Tensor
from typing_extensions import override

import lmmcl.sequence.task_sequence
from lmmcl import ContinualLMM, Task, TaskSequenceDataModule
from lmmcl.callbacks import HeldOutEvaluation, LwF, WiSEFT
from lmmcl.callbacks.wise_ft import best, merit
from lmmcl.errors import UserError
from lmmcl.evaluation.choices import Choices
from lmmcl.evaluation.matrix import Matrix
from lmmcl.mitigation import StageCallback
from tests.callbacks.laws import law_fit
from tests.toy import toy_module, toy_task, toy_trainer

Stages = dict[str, dict[str, Tensor]]


def fit(checkpoint: Path, run: Path, *callbacks: Callback) -> Stages:
    """Two tasks of one recipe, so that every stage holds the same tensors."""
    data = TaskSequenceDataModule([toy_task("first", 0), toy_task("second", 1)], batch_size=8)
    toy_trainer(callbacks=list(callbacks)).fit(toy_module(checkpoint, run), data)
    return {p.name: load_file(p / "weights.safetensors") for p in (run / "stages").iterdir()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_alpha_zero_is_plain_fine_tuning_bit_for_bit(tiny: Path, tmp_path: Path) -> None:
    plain = fit(tiny, tmp_path / "plain")
    merged = fit(tiny, tmp_path / "merged", WiSEFT(alpha=0.0, measure_before=False))
    assert same(plain["02-second"], merged["02-second"])


def test_alpha_one_leaves_the_base_weights_bit_for_bit(tiny: Path, tmp_path: Path) -> None:
    stages = fit(tiny, tmp_path, WiSEFT(alpha=1.0, measure_before=False))
    base = pretrained(tiny)
    assert same(stages["02-second"], {name: base[name] for name in stages["02-second"]})


def pretrained(checkpoint: Path) -> dict[str, Tensor]:
    from transformers import AutoModelForImageTextToText

    return dict(AutoModelForImageTextToText.from_pretrained(checkpoint).state_dict())


def test_the_next_task_starts_from_the_merge_of_before_and_after(tiny: Path, tmp_path: Path) -> None:
    seen: dict[str, dict[str, Tensor]] = {}

    class Watch(StageCallback):
        @override
        def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
            seen[f"start {task.name}"] = {
                n: p.detach().clone() for n, p in module.trained_parameters().items()
            }

        @override
        def on_task_end(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
            seen[f"end {task.name}"] = {n: p.detach().clone() for n, p in module.trained_parameters().items()}

    fit(tiny, tmp_path, Watch(), WiSEFT(alpha=0.25, measure_before=False))
    for name, start in seen["start second"].items():
        expected = 0.25 * seen["start first"][name] + 0.75 * seen["end first"][name]
        torch.testing.assert_close(start, expected)


def test_weights_before_and_after_the_merge_get_a_row_each(tiny: Path, tmp_path: Path) -> None:
    fit(tiny, tmp_path, HeldOutEvaluation(), LwF(), WiSEFT(alpha=0.5))
    stages = json.loads((tmp_path / "matrix.json").read_text())["stages"]
    rows = [(stage["name"], stage["variant"]) for stage in stages]
    assert rows == [
        ("00-base", ""),
        ("01-first", "before WiSEFT"),
        ("01-first", ""),
        ("02-second", "before WiSEFT"),
        ("02-second", ""),
    ]


class Look(StageCallback):
    """Keeps the weights where it stands in the list, before and after a mitigation's turn."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.seen: list[dict[str, Tensor]] = []

    @override
    def on_task_end(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        self.seen.append({n: p.detach().clone() for n, p in module.trained_parameters().items()})


def test_a_sweep_takes_the_merge_that_the_rule_says_and_tells_all_scores(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = Look("before"), Look("after")
    merged = WiSEFT(alpha=[0.6, 0.0, 0.3], keep=0.7, measure_before=False)
    said: list[str] = []
    monkeypatch.setattr(lmmcl.sequence.task_sequence, "rank_zero_info", said.append)
    law_fit(tiny, tmp_path, [before, merged, after])
    rows = Choices(tmp_path, "WiSEFT").read()
    assert [(row.stage, row.name) for row in rows] == [(1, "01-first"), (2, "02-second"), (3, "03-third")]
    assert len({tuple(c["scores"]["kept"] for c in row.candidates) for row in rows}) > 1
    for row, tuned, found in zip(rows, before.seen, after.seen, strict=True):
        alphas = [candidate["alpha"] for candidate in row.candidates]
        assert alphas == [0.0, 0.3, 0.6]
        target = row.name.partition("-")[2]
        for candidate in row.candidates:
            assert candidate["scores"].keys() == {target, "kept"}
            expected = 0.3 * candidate["scores"][target] + 0.7 * candidate["scores"]["kept"]
            assert candidate["merit"] == pytest.approx(expected)
        merits = [candidate["merit"] for candidate in row.candidates]
        ties = [alpha for alpha, value in zip(alphas, merits, strict=True) if value == max(merits)]
        assert alphas[row.chosen] == max(ties)
        for name, tensor in merged.tensors.items():
            if row.stage == 3:
                alpha = alphas[row.chosen]
                expected = alpha * tensor.double() + (1 - alpha) * tuned[name].double()
                torch.testing.assert_close(found[name].double(), expected, rtol=1e-6, atol=1e-7)
        assert any(row.name in text and f"takes α {alphas[row.chosen]:g}" in text for text in said)


def test_a_sweep_measures_the_merge_that_stands_in_memory(tiny: Path, tmp_path: Path) -> None:
    """The scores of each α are those that a run with this α alone has on the same rows."""
    law_fit(tiny, tmp_path / "sweep", [WiSEFT(alpha=[0.0, 0.5], measure_before=False)], kill_at=3)
    swept = Choices(tmp_path / "sweep", "WiSEFT").read()[0]
    for candidate in swept.candidates:
        run = tmp_path / str(candidate["alpha"])
        matrix = HeldOutEvaluation(canary_every_n_steps=0, part="dev")
        law_fit(tiny, run, [matrix, WiSEFT(alpha=candidate["alpha"], measure_before=False)], kill_at=3)
        cells = Matrix.load(run / "matrix.json").finals[1].cells
        assert {name: cells[name].score for name in candidate["scores"]} == candidate["scores"]


def test_of_equal_merits_the_largest_alpha_is_taken() -> None:
    assert best([0.0, 0.5, 1.0], [50.0, 60.0, 60.0]) == 2
    assert best([0.0, 0.5, 1.0], [50.0, 60.0, 59.0]) == 1


def test_the_merit_weighs_learning_against_the_mean_of_what_is_kept() -> None:
    assert merit(80.0, [10.0, 30.0], keep=0.25) == 0.75 * 80 + 0.25 * 20
    assert merit(80.0, [], keep=0.25) == 80.0


def test_one_alpha_is_chosen_from_without_a_score(tiny: Path, tmp_path: Path) -> None:
    alphas: dict[str, float | list[float]] = {"plain": 0.3, "listed": [0.3]}
    for name, alpha in alphas.items():
        law_fit(tiny, tmp_path / name, [WiSEFT(alpha, measure_before=False)], kill_at=3)
    plain, listed = (
        load_file(tmp_path / n / "stages/01-first/weights.safetensors") for n in ("plain", "listed")
    )
    assert same(plain, listed)
    assert not (tmp_path / "listed" / "choices").exists()


def test_a_sweep_without_rows_to_choose_by_is_refused_before_the_weights_are_loaded(
    tiny: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"WiSEFT.held_out must name tasks .* got 'nobody'"):
        law_fit(tiny, tmp_path / "run", [WiSEFT("sweep", held_out=["nobody"])])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("alpha", [-0.1, 1.5, [0.1, 1.5], [], "all"])
def test_an_alpha_out_of_range_is_named(alpha: Any) -> None:
    with pytest.raises(UserError, match=rf"WiSEFT.alpha must lie in \[0, 1\].*, got {re.escape(str(alpha))}"):
        WiSEFT(alpha=alpha)


@pytest.mark.parametrize("options", [{"keep": 1.5}, {"samples": 0}, {"batch_size": 0}])
def test_another_value_out_of_range_is_named(options: dict[str, Any]) -> None:
    ((key, value),) = options.items()
    with pytest.raises(UserError, match=rf"WiSEFT.{key} must .* got {value}"):
        WiSEFT(**options)
