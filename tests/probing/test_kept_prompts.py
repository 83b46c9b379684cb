"""A run that keeps features ends as one without, and asks for them where they can be found."""

from pathlib import Path
from typing import Any

import pytest

from lmmcl import TaskSequenceDataModule
from lmmcl.callbacks import HeldOutEvaluation, LwF
from lmmcl.evaluation.kept_batch import KeptBatch
from lmmcl.evaluation.kept_features import KeptFeatures, Prompts
from tests.toy import toy_module, toy_task, toy_trainer


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What became of each batch that was asked for."""
    seen: list[str] = []
    prompts = KeptFeatures.prompts

    def watched(self: KeptFeatures, *arguments: Any) -> Prompts:
        made = prompts(self, *arguments)
        seen.append("found" if isinstance(made.found, KeptBatch) else "written" if made.key else "left")
        return made

    monkeypatch.setattr(KeptFeatures, "prompts", watched)
    return seen


def fit(tiny: Path, run: Path, recipe: str, second: str, **data: Any) -> dict[str, bytes]:
    """All predictions and weights of a run of two tasks of one step each."""
    tasks = [
        toy_task("first", 0, recipe=recipe, max_train_samples=4),
        toy_task("second", 1, recipe=second, max_train_samples=4),
    ]
    trainer = toy_trainer(callbacks=[HeldOutEvaluation(batch_size=4, canary_every_n_steps=0), LwF()])
    module = TaskSequenceDataModule(tasks, batch_size=4, max_eval_samples=5, **data)
    trainer.fit(toy_module(tiny, run), module)
    kept = [*run.glob("predictions/*/*.jsonl"), *run.glob("stages/*/weights.safetensors")]
    return {str(file.relative_to(run)): file.read_bytes() for file in kept}


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("full", "mlp_gate_up", ["written", "written", "found"]),
        ("sa_proj", "projector", ["written", "found", "left"]),
    ],
)
def test_a_path_is_run_once_for_as_long_as_no_task_trains_it(
    first: str, second: str, expected: list[str], tiny: Path, found: list[str], tmp_path: Path
) -> None:
    features = str(tmp_path / "features")
    kept = fit(tiny, tmp_path / "run", first, second, cache_features=features)
    batches = len(found) // 3
    assert found == [what for what in expected for _ in range(batches)]
    if first == "full":
        assert kept == fit(tiny, tmp_path / "plain", first, second)
