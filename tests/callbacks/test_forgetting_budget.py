"""ForgettingBudget's limits, what its candidates are, and what it says."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForImageTextToText
from typing_extensions import override

import lmmcl.sequence.task_sequence
from lmmcl import ContinualLMM, StageCallback, Task
from lmmcl.callbacks import EMA, ForgettingBudget, HeldOutEvaluation, WiSEFT
from lmmcl.conflicts import check_conflicts
from lmmcl.errors import UserError
from lmmcl.evaluation.choices import Choices
from lmmcl.evaluation.matrix import Matrix
from tests.callbacks.laws import STAGES, law_fit, law_weights


@pytest.fixture(scope="module")
def plain(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Tensor]]:
    return fit(tiny, tmp_path_factory.mktemp("plain"))


def fit(checkpoint: Path, run: Path, *callbacks: Callback) -> dict[str, dict[str, Tensor]]:
    law_fit(checkpoint, run, callbacks)
    return law_weights(run)


def first_stage(checkpoint: Path, run: Path, *callbacks: Callback) -> dict[str, Tensor]:
    law_fit(checkpoint, run, callbacks, kill_at=3)
    return load_file(run / "stages" / STAGES[0] / "weights.safetensors")


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_budget_of_all_points_is_plain_tuning_and_measures_nothing(
    tiny: Path, plain: dict[str, dict[str, Tensor]], tmp_path: Path
) -> None:
    found = fit(tiny, tmp_path, ForgettingBudget(100, snapshots=2, groups=True))
    assert all(same(found[stage], plain[stage]) for stage in STAGES)
    assert not (tmp_path / "choices").exists()


def test_a_budget_that_is_never_reached_is_plain_tuning_after_one_evaluation(
    tiny: Path, plain: dict[str, dict[str, Tensor]], tmp_path: Path
) -> None:
    # What is to be kept scores 0 from the base model on, and cannot fall; six rows say so up to 46 points.
    found = fit(tiny, tmp_path, ForgettingBudget(50.0, held_out=["first"], measure_before=False))
    assert all(same(found[stage], plain[stage]) for stage in STAGES)
    rows = Choices(tmp_path, "ForgettingBudget").read()
    assert [(row.name, row.chosen, len(row.candidates)) for row in rows] == [
        (stage, 0, 1) for stage in STAGES
    ]


def test_a_budget_of_zero_on_a_model_that_forgets_loses_nothing(
    tiny: Path, plain: dict[str, dict[str, Tensor]], tmp_path: Path
) -> None:
    matrix = HeldOutEvaluation(canary_every_n_steps=0, part="dev")
    found = fit(tiny, tmp_path, matrix, ForgettingBudget(0.0, alphas=[0.5], measure_before=False))
    rows = Choices(tmp_path, "ForgettingBudget").read()
    assert rows[0].candidates[0]["loss"] > 20  # as tuned it forgets
    chosen = [row.candidates[row.chosen] for row in rows]
    assert all(one["low"] <= 0 and one["high"] <= 0 for one in chosen)
    kept = [row.cells["kept"].score for row in Matrix.load(tmp_path / "matrix.json").finals]
    assert kept[1:] == [one["scores"]["kept"] for one in chosen]
    assert all(score >= kept[0] for score in kept)
    assert not same(found["01-first"], plain["01-first"])


def test_the_weights_are_those_of_the_candidate_that_was_chosen(
    tiny: Path, plain: dict[str, dict[str, Tensor]], tmp_path: Path
) -> None:
    budget = ForgettingBudget(50.0, alphas=[0.25, 0.75], measure_before=False)
    found = first_stage(tiny, tmp_path, budget)
    row = Choices(tmp_path, "ForgettingBudget").read()[0]
    candidate = row.candidates[row.chosen]
    assert [one["alpha"] for one in row.candidates] == [0.0, 1.0, 0.75, 0.25][: len(row.candidates)]
    assert 0 < candidate["alpha"] < 1 and candidate["high"] <= 50 < row.candidates[0]["high"]
    assert row.candidates[1]["high"] == 0, "the base model lost nothing"
    resumed = ForgettingBudget(50.0)
    resumed.load_state_dict(budget.state_dict())
    assert not resumed._at_base, "the previous weights of the next stage are not the base model's"
    base = AutoModelForImageTextToText.from_pretrained(tiny).state_dict()
    tuned = plain["01-first"]
    for name, tensor in found.items():
        torch.testing.assert_close(
            tensor, candidate["alpha"] * base[name] + (1 - candidate["alpha"]) * tuned[name]
        )


class At(StageCallback):
    """Keeps the weights after one step of the first task."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._step = step
        self.seen: dict[str, Tensor] = {}

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self._step:
            self.seen = {n: p.detach().clone() for n, p in pl_module.trained_parameters().items()}


class Graded(ForgettingBudget):
    """A budget whose scores are given: by α, and by step."""

    _losses: dict[Any, float]

    @override
    def _score(self, module: ContinualLMM, task: Task, alpha: Any, step: int | None) -> Any:
        from lmmcl.evaluation.budget import Candidate
        from lmmcl.evaluation.summary import Estimate

        key = step if step is not None else alpha if isinstance(alpha, float) else tuple(alpha.values())
        loss = self._losses.get(key, 0.0)
        return Candidate(alpha, step, Estimate(loss, loss, loss), {task.name: 10.0 + loss})


def test_an_earlier_step_of_the_stage_is_a_candidate(tiny: Path, tmp_path: Path) -> None:
    look, budget = At(2), Graded(5.0, alphas=[], snapshots=1, measure_before=False)
    budget._losses = {0.0: 9.0, 2: 4.0}
    found = first_stage(tiny, tmp_path, look, budget)
    row = Choices(tmp_path, "Graded").read()[0]
    assert [(one["alpha"], one["step"]) for one in row.candidates] == [(0.0, None), (1.0, None), (0.0, 2)]
    assert row.chosen == 2
    assert all(torch.equal(found[name], tensor) for name, tensor in look.seen.items())


def test_a_group_is_given_back_as_it_was_tuned(
    tiny: Path, plain: dict[str, dict[str, Tensor]], tmp_path: Path
) -> None:
    budget = Graded(5.0, alphas=[0.5], groups=True, measure_before=False)
    budget._losses = {0.0: 9.0, 0.5: 1.0, (0.0, 0.5, 0.5, 0.5): 4.0, (0.0, 0.0, 0.5, 0.5): 6.0}
    budget._losses |= {(0.0, 0.5, 0.0, 0.5): 6.0, (0.0, 0.5, 0.5, 0.0): 6.0}
    found = first_stage(tiny, tmp_path, budget)
    row = Choices(tmp_path, "Graded").read()[0]
    taken = row.candidates[row.chosen]["alpha"]
    (tuned_group,) = [group for group, alpha in taken.items() if alpha == 0]
    assert tuned_group == "llm.attn.q" and len(taken) == 4
    base = AutoModelForImageTextToText.from_pretrained(tiny).state_dict()
    for name, tensor in found.items():
        of_base = 0.0 if "q_proj" in name else 0.5
        expected = of_base * base[name] + (1 - of_base) * plain["01-first"][name]
        torch.testing.assert_close(tensor, expected)


def test_it_says_what_the_budget_cost_and_that_nothing_stays_within_it(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(lmmcl.sequence.task_sequence, "rank_zero_info", said.append)
    budget = Graded(5.0, alphas=[0.5], measure_before=False)
    budget._losses = {0.0: 9.0, 0.5: 7.0, 1.0: 8.0}
    first_stage(tiny, tmp_path, budget)
    (told,) = [text for text in said if "Graded: 01-first" in text]
    assert "takes α 0.5 of 3 tried; nothing stays within the budget, this lost least" in told
    assert "lost 7.0 points" in told and "budget 5; as tuned 9.0" in told
    assert "has 17.0 in first (as tuned 19.0)" in told
    assert any("fewer than 30 rows for dev: kept (6)" in text for text in said)


def test_nothing_that_moves_weights_stands_behind_it() -> None:
    check_conflicts([EMA(), WiSEFT(), ForgettingBudget()])
    check_conflicts([ForgettingBudget(100), WiSEFT()])
    with pytest.raises(
        UserError, match="list WiSEFT before ForgettingBudget: the budget holds for the weights"
    ):
        check_conflicts([ForgettingBudget(), WiSEFT()])
    with pytest.raises(UserError, match="cannot work together: each chooses the weights of a stage anew"):
        check_conflicts([ForgettingBudget(), ForgettingBudget(5.0, name="more")])


@pytest.mark.parametrize(
    "options", [{"points": -1}, {"points": 101}, {"alphas": [2.0]}, {"snapshots": -1}, {"samples": 0}]
)
def test_a_value_out_of_range_is_named(options: dict[str, Any]) -> None:
    ((key, _),) = options.items()
    with pytest.raises(UserError, match=f"ForgettingBudget.{key} must"):
        ForgettingBudget(**options)


def test_a_run_with_nothing_to_keep_is_refused_before_the_weights_are_loaded(
    tiny: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"ForgettingBudget.held_out needs at least one task"):
        law_fit(tiny, tmp_path / "run", [ForgettingBudget(held_out=[])])
    assert not (tmp_path / "run").exists()
