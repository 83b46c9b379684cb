"""What is measured when, what is kept, and what the canary reads."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.nn import functional
from typing_extensions import override

import lmmcl.outputs.token_outputs
from lmmcl import ContinualLMM, Task
from lmmcl.callbacks import HeldOutEvaluation, held_out_evaluation
from lmmcl.callbacks.held_out_evaluation import canary_reading
from lmmcl.data.batches.batch import IGNORED
from lmmcl.data.row import Row
from lmmcl.errors import UserError
from lmmcl.evaluation.generate import generate
from lmmcl.evaluation.result import TaskResult
from lmmcl.mitigation import StageCallback
from lmmcl.position import Stage
from lmmcl.probing.probe import first_answer_tokens
from lmmcl.run.checkpoint import write_manifest
from tests.toy import ToySource, toy_data, toy_module, toy_task, toy_trainer


def test_the_base_model_and_every_stage_are_measured_on_every_task(tiny: Path, tmp_path: Path) -> None:
    heard: list[tuple[str | None, list[str]]] = []

    class Listen(StageCallback):
        @override
        def on_stage_end(
            self, trainer: Trainer, module: ContinualLMM, task: Task | None, scores: Mapping[str, float]
        ) -> None:
            heard.append((task.name if task else None, list(scores)))

    toy_trainer(callbacks=[HeldOutEvaluation(), Listen()]).fit(toy_module(tiny, tmp_path), toy_data())
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


def test_a_run_that_only_chooses_is_measured_on_dev_rows_and_shares_no_answer_with_others(
    tiny: Path, tmp_path: Path
) -> None:
    for part, first, count in (("dev", 100, 6), ("test", 200, 7)):
        run = tmp_path / part
        toy_trainer(callbacks=[HeldOutEvaluation(part=part)]).fit(toy_module(tiny, run), toy_data())  # type: ignore[arg-type]  # a text
        lines = (run / "predictions" / "00-base" / "held.jsonl").read_text().splitlines()
        assert [json.loads(line)["id"] for line in lines] == [f"toy-2-{first + i}" for i in range(count)]
    keys = [
        json.loads((tmp_path / part / "predictions" / "00-base" / "index.json").read_bytes())["held"]["key"]
        for part in ("dev", "test")
    ]
    assert keys[0] != keys[1]


def test_a_stage_that_changed_nothing_costs_no_generation(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def counted(*arguments: Any) -> list[str]:
        calls.append("once")
        return generate(*arguments)

    monkeypatch.setattr("lmmcl.evaluation.answering.generate", counted)

    class Undo(StageCallback):
        """Puts the base weights back, so that every stage is the base model."""

        @override
        def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
            self.tensors = dict(module.anchor())

        @override
        def on_task_end(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
            from lmmcl.weights import copy_

            copy_(module.parameters_by_name(list(self.tensors)), self.tensors)

    toy_trainer(callbacks=[Undo(), HeldOutEvaluation()]).fit(toy_module(tiny, tmp_path), toy_data())
    assert len(calls) == 3, "one batch for each of the three tasks, for the base model only"
    base, last = (tmp_path / "predictions" / stage / "held.jsonl" for stage in ("00-base", "02-second"))
    assert base.read_bytes() == last.read_bytes()


def test_the_base_model_itself_reads_a_divergence_of_zero() -> None:
    logits, labels = torch.randn(5, 7), torch.arange(5)
    base = logits.log_softmax(-1)
    loss, divergence = canary_reading(logits, labels, base).T
    assert torch.equal(divergence, torch.zeros(5))
    torch.testing.assert_close(loss, -base[labels, labels])


@pytest.mark.parametrize(("batch_size", "answer_tokens", "logits_at_once"), [(32, 8, 1 << 26), (3, 2, 1)])
def test_the_canary_reads_the_loss_of_gold_answers_and_kl_to_the_base_model(
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    batch_size: int,
    answer_tokens: int,
    logits_at_once: int,
) -> None:
    """In batches and chunks of any size."""
    monkeypatch.setattr(held_out_evaluation, "_ANSWER_TOKENS", answer_tokens)
    monkeypatch.setattr(lmmcl.outputs.token_outputs, "_LOGITS_AT_ONCE", logits_at_once)
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
            base = type(pl_module.model).from_pretrained(tiny, attn_implementation="eager")  # type: ignore[attr-defined]  # transformers
            now = type(pl_module.model).from_pretrained(tiny, attn_implementation="eager")  # type: ignore[attr-defined]  # transformers
            now.load_state_dict({n: p.detach() for n, p in pl_module.model.named_parameters()}, strict=False)
            rows = pl_module.data.eval_rows(pl_module.data.held_out[0], "dev", 4)
            canary = pl_module.data.collator.train(rows)
            assert canary.labels is not None
            positions = first_answer_tokens(canary.labels, answer_tokens)[:, 1:] != IGNORED
            with torch.no_grad():
                p, q = (m(**canary.inputs).logits[:, :-1][positions].log_softmax(-1) for m in (base, now))
            nll = functional.nll_loss(q, canary.labels[:, 1:][positions])
            kl = (p.exp() * (p - q)).sum(-1).mean()
            expected.append((trainer.global_step, float(nll), float(kl)))

    canary = HeldOutEvaluation(batch_size, canary_every_n_steps=2, canary_samples=4)
    callbacks = [canary, Reference()]
    toy_trainer(callbacks=callbacks).fit(toy_module(tiny, tmp_path), toy_data())
    wanted = [entry for entry in expected if entry[0] in (2, 5)]
    found = [entry for entry in readings if entry[0] in (2, 5)]
    assert [step for step, _, _ in found] == [2, 5], "the second step of each task"
    for mine, reference in zip(found, wanted, strict=True):
        assert mine == pytest.approx(reference, rel=1e-3, abs=1e-6)


class WithoutDev(ToySource):
    """A small file whose split left no row for dev."""

    @override
    def split(self, name: str) -> Sequence[Row]:
        if name == "dev":
            raise UserError("path: toy.jsonl must have rows for dev, got train 2, dev 0, test 7.")
        return super().split(name)


def test_the_canary_leaves_out_tasks_without_dev_rows_and_says_so_once(tiny: Path, tmp_path: Path) -> None:
    data, canary = toy_data(), HeldOutEvaluation(canary_every_n_steps=1)
    data.held_out.append(replace(toy_task("small", 3), source=WithoutDev(3)))
    trainer = toy_trainer(callbacks=[canary])
    with pytest.warns(UserWarning, match="canary leaves out small, which") as said:
        trainer.fit(toy_module(tiny, tmp_path), data)
    assert sum("canary" in str(one.message) for one in said) == 1
    assert "held_out_kl" in trainer.callback_metrics
    assert (tmp_path / "predictions" / "02-second" / "small.jsonl").exists(), "it is measured all the same"


def test_the_canary_is_off_where_no_held_out_task_has_dev_rows(tiny: Path, tmp_path: Path) -> None:
    data, canary = toy_data(), HeldOutEvaluation(canary_every_n_steps=1)
    data.held_out[:] = [replace(toy_task("small", 3), source=WithoutDev(3))]
    trainer = toy_trainer(callbacks=[canary])
    with pytest.warns(UserWarning, match="small, which .*; it is off") as said:
        trainer.fit(toy_module(tiny, tmp_path), data)
    assert sum("canary" in str(one.message) for one in said) == 1 and not canary.tensors
    assert "held_out_kl" not in trainer.callback_metrics


def test_every_n_steps_adds_rows_inside_a_stage(tiny: Path, tmp_path: Path) -> None:
    toy_trainer(callbacks=[HeldOutEvaluation(every_n_steps=2)]).fit(toy_module(tiny, tmp_path), toy_data())
    stages = json.loads((tmp_path / "matrix.json").read_text())["stages"]
    assert [f"{stage['name']} {stage['variant']}".strip() for stage in stages] == [
        *("00-base", "01-first step 2", "01-first", "02-second step 2", "02-second")
    ]


def test_a_stop_inside_a_measurement_between_stages_loses_neither_the_step_nor_the_row(
    tiny: Path, tmp_path: Path
) -> None:
    class Stop(StageCallback):
        """As SIGTERM does, in the middle of a measurement."""

        @override
        def evaluate(self, trainer: Trainer, module: ContinualLMM, stage: Stage) -> Mapping[str, TaskResult]:
            if stage.variant == "step 2" and stage.index == 1:
                module.sequence.stop.requested = True
            return {}

    def fit(run: Path, *callbacks: StageCallback, **options: Any) -> None:
        # A save every 7 steps: only the stop itself can have saved the second one.
        module = toy_module(tiny, run, checkpoint_every_n_steps=7, **options)
        toy_trainer(callbacks=list(callbacks)).fit(module, toy_data())

    fit(tmp_path / "whole", HeldOutEvaluation(every_n_steps=2))
    with pytest.raises(SystemExit, match="143"):
        fit(tmp_path / "stopped", Stop(), HeldOutEvaluation(every_n_steps=2))
    assert any(path.name.startswith("00000002-01") for path in (tmp_path / "stopped" / "last").iterdir())
    config = (tmp_path / "whole" / "config.json").read_bytes()
    (tmp_path / "stopped" / "config.json").write_bytes(config)  # without the callback that stopped it
    newest = max((tmp_path / "stopped" / "last").iterdir())
    held = json.loads((newest / "manifest.json").read_text())
    del held["state"]["callbacks"]["Stop"]
    write_manifest(newest, held["files"], held["state"])
    fit(tmp_path / "stopped", HeldOutEvaluation(every_n_steps=2), resume=True)
    for name in ("matrix.json", "stages/02-second/weights.safetensors"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_another_callback_may_add_columns_of_its_own(tiny: Path, tmp_path: Path) -> None:
    class Constant(StageCallback):
        @override
        def evaluate(self, trainer: Trainer, module: ContinualLMM, stage: Stage) -> Mapping[str, TaskResult]:
            from lmmcl.evaluation.result import Example

            return {"constant": TaskResult("constant", [Example("0", "a", "a", 1.0)])}

    toy_trainer(callbacks=[HeldOutEvaluation(), Constant()]).fit(toy_module(tiny, tmp_path), toy_data())
    matrix = json.loads((tmp_path / "matrix.json").read_text())
    assert all(stage["cells"]["constant"]["score"] == 100.0 for stage in matrix["stages"])
    assert "constant" in matrix["held_out"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"part": "train"}, "HeldOutEvaluation.part must be test or dev, got 'train'"),
        ({"batch_size": 0}, "batch_size"),
        ({"every_n_steps": 0}, "every_n_steps"),
        ({"canary_samples": 0}, "canary"),
    ],
)
def test_a_value_out_of_range_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        HeldOutEvaluation(**options)
