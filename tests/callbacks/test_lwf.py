"""LwF against its textbook form: a second whole model with full logits."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from safetensors.torch import load_file
from torch import Tensor
from typing_extensions import override

from lmmcl import ContinualLMM, TaskSequenceDataModule
from lmmcl.callbacks import LwF
from lmmcl.callbacks.lwf import shares
from lmmcl.data.batches.batch import IGNORED, Batch
from lmmcl.errors import UserError
from lmmcl.losses import distillation
from lmmcl.outputs.token_outputs import TokenOutputs
from tests.toy import toy_data, toy_module, toy_task, toy_trainer

POSITIONS = pytest.mark.parametrize("positions", ["answer", "all"])


def fit(checkpoint: Path, run: Path, *callbacks: Callback, **options: Any) -> dict[str, dict[str, Tensor]]:
    toy_trainer(callbacks=list(callbacks)).fit(toy_module(checkpoint, run, **options), toy_data())
    return {p.name: load_file(p / "weights.safetensors") for p in (run / "stages").iterdir()}


@POSITIONS
def test_weight_zero_is_plain_fine_tuning_bit_for_bit(positions: Any, tiny: Path, tmp_path: Path) -> None:
    plain = fit(tiny, tmp_path / "plain")
    off = fit(tiny, tmp_path / "off", LwF(weight=0.0, positions=positions))
    for stage, tensors in plain.items():
        assert all(torch.equal(tensors[name], off[stage][name]) for name in tensors)


@POSITIONS
def test_a_student_that_equals_its_teacher_is_not_pulled(positions: Any, tiny: Path, tmp_path: Path) -> None:
    one_step = TaskSequenceDataModule([toy_task("first", 0, max_train_samples=8)], batch_size=8)
    found = []
    for name, callbacks in {"plain": [], "LwF": [LwF(weight=100.0, positions=positions)]}.items():
        module = toy_module(tiny, tmp_path / name)
        toy_trainer(callbacks=callbacks, gradient_clip_val=None).fit(module, one_step)
        found.append(load_file(tmp_path / name / "stages" / "01-first" / "weights.safetensors"))
    moved = 0.0
    for name, plain in found[0].items():
        torch.testing.assert_close(found[1][name], plain, rtol=0, atol=2e-4)
        moved = max(moved, float(plain.abs().max()))
    assert moved > 1e-2


def test_the_teacher_is_the_previous_stage_and_the_term_its_textbook_formula(
    tiny: Path, tmp_path: Path
) -> None:
    """The reference loads the previous stage into a second whole model and uses full logits."""
    run = tmp_path / "run"
    checked: list[int] = []

    class Check(LwF):
        @override
        def token_loss(self, module: ContinualLMM, batch: Batch, outputs: TokenOutputs) -> Tensor | None:
            found = super().token_loss(module, batch, outputs)
            assert found is not None and batch.labels is not None
            stage = module.sequence.position.stage
            teacher = type(module.model).from_pretrained(tiny, attn_implementation="eager")  # type: ignore[attr-defined]  # transformers
            if stage > 1:
                weights = load_file(run / "stages" / "01-first" / "weights.safetensors")
                assert not teacher.load_state_dict(weights, strict=False).unexpected_keys
            positions = batch.labels[:, 1:] != IGNORED
            with torch.no_grad():
                logits = teacher(**batch.inputs).logits[:, :-1][positions]
                expected = 0.7 * distillation(module.logits(outputs.hidden), logits, 3.0)
            torch.testing.assert_close(found.detach(), expected, rtol=1e-4, atol=1e-6)
            checked.append(stage)
            return found

    fit(tiny, run, Check(weight=0.7, temperature=3.0, name="LwF"))
    assert checked == [1, 1, 1, 2, 2, 2]


class Whole(LwF):
    """Compares the term at all positions with a second whole model, full logits and a loop over the samples."""

    def __init__(self, checkpoint: Path) -> None:
        super().__init__(weight=0.7, temperature=3.0, positions="all", name="LwF")
        self._checkpoint = checkpoint
        self.checked = 0

    @override
    def token_loss(self, module: ContinualLMM, batch: Batch, outputs: TokenOutputs) -> Tensor | None:
        found = super().token_loss(module, batch, outputs)
        assert found is not None and batch.labels is not None
        if module.sequence.position.stage == 1:
            model: Any = type(module.model)
            teacher = model.from_pretrained(self._checkpoint, attn_implementation="eager")
            student = model.from_pretrained(self._checkpoint, attn_implementation="eager")
            student.load_state_dict(module.model.state_dict())
            with torch.no_grad():
                of_teacher, of_student = teacher(**batch.inputs).logits, student(**batch.inputs).logits
            expected = 0.0
            for i, labels in enumerate(batch.labels):
                answers = int((labels != IGNORED).sum())
                real = int(batch.inputs["attention_mask"][i].sum())  # padded on the right
                if answers:
                    pairs = of_student[i, : real - 1], of_teacher[i, : real - 1]
                    expected += 0.7 * answers * float(distillation(*pairs, 3.0).mean())
            assert float(found.detach().sum()) == pytest.approx(expected, rel=1e-4, abs=1e-6)
            self.checked += 1
        return found


def test_at_all_positions_it_is_the_mean_over_each_sample_weighted_by_its_answer_tokens(
    tiny: Path, tmp_path: Path
) -> None:
    whole = Whole(tiny)
    fit(tiny, tmp_path, whole)
    assert whole.checked == 3


def test_all_positions_reach_more_than_the_answer(tiny: Path, tmp_path: Path) -> None:
    answer = fit(tiny, tmp_path / "answer", LwF(weight=5.0))["02-second"]
    everywhere = fit(tiny, tmp_path / "all", LwF(weight=5.0, positions="all"))["02-second"]
    assert any(not torch.equal(answer[name], everywhere[name]) for name in answer)


def test_where_everything_is_an_answer_all_positions_weigh_one() -> None:
    everything = torch.tensor([0, 0, 0, 1, 1])
    assert shares(everything, everything, 2).tolist() == [1.0] * 5


def test_each_sample_weighs_as_much_as_its_answer_tokens() -> None:
    everywhere, answers = torch.tensor([0] * 8 + [2] * 4), torch.tensor([0, 0, 2])
    found = shares(everywhere, answers, 3)  # sample 1 is a filler, whose positions are left out
    assert found.tolist() == [0.25] * 12
    assert float(found.sum()) == len(answers)


def test_the_teacher_holds_the_trained_tensors_and_nothing_else(tiny: Path, tmp_path: Path) -> None:
    held: list[tuple[set[str], set[str]]] = []

    class Look(LwF):
        @override
        def before_forward(self, module: ContinualLMM, batch: Batch) -> None:
            super().before_forward(module, batch)
            held.append((set(self.tensors), set(module.trained)))

    fit(tiny, tmp_path, Look(name="LwF"))
    assert all(tensors == trained for tensors, trained in held) and len(held) == 6


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"weight": -1.0}, "LwF.weight"),
        ({"temperature": 0.0}, "temperature"),
        ({"positions": "prompt"}, "LwF.positions must be answer or all, got 'prompt'"),
    ],
)
def test_a_value_out_of_range_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        LwF(**options)
