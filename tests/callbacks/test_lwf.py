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
from lmmcl.data.batch import IGNORED, Batch
from lmmcl.errors import UserError
from lmmcl.losses import distillation
from lmmcl.token_outputs import TokenOutputs
from tests.tiny import tiny_checkpoint
from tests.toy import toy_data, toy_module, toy_task, toy_trainer


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


def fit(checkpoint: Path, run: Path, *callbacks: Callback, **options: Any) -> dict[str, dict[str, Tensor]]:
    toy_trainer(callbacks=list(callbacks)).fit(toy_module(checkpoint, run, **options), toy_data())
    return {p.name: load_file(p / "weights.safetensors") for p in (run / "stages").iterdir()}


def test_weight_zero_is_plain_fine_tuning_bit_for_bit(checkpoint: Path, tmp_path: Path) -> None:
    plain, off = fit(checkpoint, tmp_path / "plain"), fit(checkpoint, tmp_path / "off", LwF(weight=0.0))
    for stage, tensors in plain.items():
        assert all(torch.equal(tensors[name], off[stage][name]) for name in tensors)


def test_a_student_that_equals_its_teacher_is_not_pulled(checkpoint: Path, tmp_path: Path) -> None:
    one_step = TaskSequenceDataModule([toy_task("first", 0, max_train_samples=8)], batch_size=8)
    found = []
    for name, callbacks in {"plain": [], "LwF": [LwF(weight=100.0)]}.items():
        module = toy_module(checkpoint, tmp_path / name)
        toy_trainer(callbacks=callbacks, gradient_clip_val=None).fit(module, one_step)
        found.append(load_file(tmp_path / name / "stages" / "01-first" / "weights.safetensors"))
    moved = 0.0
    for name, plain in found[0].items():
        torch.testing.assert_close(found[1][name], plain, rtol=0, atol=2e-4)
        moved = max(moved, float(plain.abs().max()))
    assert moved > 1e-2


def test_the_teacher_is_the_previous_stage_and_the_term_its_textbook_formula(
    checkpoint: Path, tmp_path: Path
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
            teacher = type(module.model).from_pretrained(checkpoint, attn_implementation="eager")  # type: ignore[attr-defined]  # transformers
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

    fit(checkpoint, run, Check(weight=0.7, temperature=3.0, name="LwF"))
    assert checked == [1, 1, 1, 2, 2, 2]


def test_the_teacher_holds_the_trained_tensors_and_nothing_else(checkpoint: Path, tmp_path: Path) -> None:
    held: list[tuple[set[str], set[str]]] = []

    class Look(LwF):
        @override
        def before_forward(self, module: ContinualLMM, batch: Batch) -> None:
            super().before_forward(module, batch)
            held.append((set(self.tensors), set(module.trained)))

    fit(checkpoint, tmp_path, Look(name="LwF"))
    assert all(tensors == trained for tensors, trained in held) and len(held) == 6


@pytest.mark.parametrize(
    ("options", "named"), [({"weight": -1.0}, "LwF.weight"), ({"temperature": 0.0}, "temperature")]
)
def test_a_value_out_of_range_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        LwF(**options)
