"""What is measured when, what is kept, and what the canary reads."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.nn import functional
from typing_extensions import override

from lmmcl import ContinualLMM, Task
from lmmcl.callbacks import HeldOutEvaluation
from lmmcl.data.batch import IGNORED
from lmmcl.errors import UserError
from lmmcl.evaluation.generate import generate
from lmmcl.evaluation.result import TaskResult
from lmmcl.mitigation import StageCallback
from lmmcl.sequence import Stage
from tests.tiny import tiny_checkpoint
from tests.toy import toy_data, toy_module, toy_trainer


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


def test_the_base_model_and_every_stage_are_measured_on_every_task(checkpoint: Path, tmp_path: Path) -> None:
    heard: list[tuple[str | None, list[str]]] = []

    class Listen(StageCallback):
        @override
        def on_stage_end(
            self, trainer: Trainer, module: ContinualLMM, task: Task | None, scores: Mapping[str, float]
        ) -> None:
            heard.append((task.name if task else None, list(scores)))

    toy_trainer(callbacks=[HeldOutEvaluation(), Listen()]).fit(toy_module(checkpoint, tmp_path), toy_data())
    tasks = ["first", "second", "held"]
    assert [(name, sorted(found)) for name, found in heard] == [
        (n, sorted(tasks)) for n in (None, "first", "second")
    ]
    for stage in ("00-base", "01-first", "02-second"):
        for task in tasks:
            lines = (tmp_path / "predictions" / stage / f"{task}.jsonl").read_text().splitlines()
            assert [json.loads(line)["id"] for line in lines] == [
                f"toy-{tasks.index(task)}-{i}" for i in range(200, 207)
            ]


def test_a_stage_that_changed_nothing_costs_no_generation(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def counted(*arguments: Any) -> list[str]:
        calls.append("once")
        return generate(*arguments)

    monkeypatch.setattr("lmmcl.evaluation.evaluator.generate", counted)

    class Undo(StageCallback):
        """Puts the base weights back, so that every stage is the base model."""

        @override
        def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
            self.tensors = dict(module.anchor())

        @override
        def on_task_end(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
            from lmmcl.weights import copy_

            copy_(module.parameters_by_name(list(self.tensors)), self.tensors)

    toy_trainer(callbacks=[Undo(), HeldOutEvaluation()]).fit(toy_module(checkpoint, tmp_path), toy_data())
    assert len(calls) == 3, "one batch for each of the three tasks, for the base model only"
    base, last = (tmp_path / "predictions" / stage / "held.jsonl" for stage in ("00-base", "02-second"))
    assert base.read_bytes() == last.read_bytes()


def test_the_canary_reads_the_loss_of_gold_answers_and_kl_to_the_base_model(
    checkpoint: Path, tmp_path: Path
) -> None:
    readings: list[tuple[int, float, float]] = []
    expected: list[tuple[int, float, float]] = []

    class Reference(StageCallback):
        """The textbook way: the base model and the present one as two whole models with full logits."""

        @override
        def on_train_batch_end(
            self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            assert isinstance(pl_module, ContinualLMM)
            metrics = trainer.callback_metrics
            if "held_out_kl" in metrics and (trainer.global_step % 2 == 0 or trainer.global_step == 5):
                readings.append(
                    (trainer.global_step, float(metrics["held_out_loss"]), float(metrics["held_out_kl"]))
                )
            base = type(pl_module.model).from_pretrained(checkpoint, attn_implementation="eager")  # type: ignore[attr-defined]  # transformers
            now = type(pl_module.model).from_pretrained(checkpoint, attn_implementation="eager")  # type: ignore[attr-defined]  # transformers
            now.load_state_dict({n: p.detach() for n, p in pl_module.model.named_parameters()}, strict=False)
            rows = pl_module.data.eval_rows(pl_module.data.held_out[0], "dev", 4)
            canary = pl_module.data.collator.train(rows)
            assert canary.labels is not None
            positions = canary.labels[:, 1:] != IGNORED
            with torch.no_grad():
                p, q = (m(**canary.inputs).logits[:, :-1][positions].log_softmax(-1) for m in (base, now))
            nll = functional.nll_loss(q, canary.labels[:, 1:][positions])
            kl = (p.exp() * (p - q)).sum(-1).mean()
            expected.append((trainer.global_step, float(nll), float(kl)))

    callbacks = [HeldOutEvaluation(canary_every_n_steps=2, canary_samples=4), Reference()]
    toy_trainer(callbacks=callbacks).fit(toy_module(checkpoint, tmp_path), toy_data())
    wanted = [entry for entry in expected if entry[0] in (2, 5)]
    found = [entry for entry in readings if entry[0] in (2, 5)]
    assert [step for step, _, _ in found] == [2, 5], "the second step of each task"
    for mine, reference in zip(found, wanted, strict=True):
        assert mine == pytest.approx(reference, rel=1e-3, abs=1e-6)


def test_every_n_steps_adds_rows_inside_a_stage(checkpoint: Path, tmp_path: Path) -> None:
    toy_trainer(callbacks=[HeldOutEvaluation(every_n_steps=2)]).fit(
        toy_module(checkpoint, tmp_path), toy_data()
    )
    stages = json.loads((tmp_path / "matrix.json").read_text())["stages"]
    assert [f"{stage['name']} {stage['variant']}".strip() for stage in stages] == [
        *("00-base", "01-first step 2", "01-first", "02-second step 2", "02-second")
    ]


def test_another_callback_may_add_columns_of_its_own(checkpoint: Path, tmp_path: Path) -> None:
    class Constant(StageCallback):
        @override
        def evaluate(self, trainer: Trainer, module: ContinualLMM, stage: Stage) -> Mapping[str, TaskResult]:
            from lmmcl.evaluation.result import Example

            return {"constant": TaskResult("constant", [Example("0", "a", "a", 1.0)])}

    toy_trainer(callbacks=[HeldOutEvaluation(), Constant()]).fit(toy_module(checkpoint, tmp_path), toy_data())
    matrix = json.loads((tmp_path / "matrix.json").read_text())
    assert all(stage["cells"]["constant"]["score"] == 100.0 for stage in matrix["stages"])
    assert "constant" in matrix["held_out"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"every_n_steps": 0}, "every_n_steps"),
        ({"canary_samples": 0}, "canary"),
    ],
)
def test_a_value_out_of_range_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        HeldOutEvaluation(**options)
