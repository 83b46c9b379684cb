"""The module's promises: logits, masters, teachers, gradients, refusals."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from typing_extensions import override

from lmmcl import ContinualLMM, Task
from lmmcl.data.batches.batch import IGNORED, Batch
from lmmcl.data.row import Row
from lmmcl.errors import UserError
from lmmcl.mitigation import Mitigation
from lmmcl.outputs.token_outputs import TokenOutputs
from tests.tiny import tiny_checkpoint
from tests.toy import toy_data, toy_module, toy_task, toy_trainer


class Enough(Exception):  # noqa: N818 - not an error: the test has seen what it wanted
    """Ends a run."""


Look = Callable[[ContinualLMM], None]


class AtStart(Mitigation):
    """Runs a function on the prepared module before the first step, then ends the run."""

    def __init__(self, look: Look) -> None:
        super().__init__()
        self._look = look

    @override
    def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        self._look(module)
        raise Enough


def look_at(checkpoint: Path, run: Path, look: Look, precision: str = "32-true", **options: Any) -> None:
    trainer = toy_trainer(callbacks=[AtStart(look)], precision=precision)
    with pytest.raises(Enough):
        trainer.fit(toy_module(checkpoint, run, **options), toy_data())


def batch_of(module: ContinualLMM, count: int = 5) -> Batch:
    return module.data.collator.train(module.data.train_rows(0)[:count])


def test_the_hook_gives_the_logits_of_the_plain_model_bit_for_bit(tiny: Path, tmp_path: Path) -> None:
    def look(module: ContinualLMM) -> None:
        batch = batch_of(module)
        outputs = module.token_outputs(batch)
        reference = type(module.model).from_pretrained(tiny, attn_implementation="eager").train()  # type: ignore[attr-defined]  # transformers
        logits = reference(**batch.inputs).logits
        assert batch.labels is not None
        positions = batch.labels[:, 1:] != IGNORED
        assert torch.equal(outputs.labels, batch.labels[:, 1:][positions])
        assert torch.equal(module.logits(outputs.hidden), logits[:, :-1][positions])

    look_at(tiny, tmp_path, look)


def test_no_tensor_of_batch_length_and_vocabulary_is_ever_made(tiny: Path, tmp_path: Path) -> None:
    def look(module: ContinualLMM) -> None:
        head: Any = module._forwards._head
        batch, rows = batch_of(module), module.data.eval_rows(module.data.held_out[0])
        vocabulary, largest = module.logits(torch.zeros(1, head.in_features)).shape[-1], 0
        weight = head.weight.untyped_storage().data_ptr()

        class Watch(TorchDispatchMode):
            @override
            def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                nonlocal largest
                result = func(*args, **(kwargs or {}))
                for tensor in result if isinstance(result, tuple | list) else [result]:
                    if not isinstance(tensor, Tensor) or not tensor.dim() or tensor.shape[-1] != vocabulary:
                        continue
                    if tensor.untyped_storage().data_ptr() != weight:  # a view of the head is no logit
                        largest = max(largest, tensor.numel() // vocabulary)
                return result

        with Watch():  # type: ignore[no-untyped-call]  # torch leaves it untyped
            module.token_outputs(batch).map(
                lambda logits, labels: functional.cross_entropy(logits, labels)[None]
            )
            with module.inference():
                module.generate(module.data.collator.prompts(rows), 3)
        assert batch.labels is not None
        answer_tokens = int((batch.labels[:, 1:] != IGNORED).sum())
        assert 0 < largest <= max(answer_tokens, len(rows))

    look_at(tiny, tmp_path, look)


def test_a_teacher_leaves_the_student_untouched(tiny: Path, tmp_path: Path) -> None:
    def look(module: ContinualLMM) -> None:
        batch = batch_of(module)

        def gradient(with_teacher: bool) -> list[Tensor]:
            with torch.autocast("cpu", torch.bfloat16):
                teacher = None
                if with_teacher:
                    other = {n: torch.randn_like(p) for n, p in module.trained_parameters().items()}
                    teacher = module.token_outputs(batch, weights=other)
                    assert not teacher.hidden.requires_grad
                student = module.token_outputs(batch)
                if teacher is not None:
                    assert not torch.allclose(student.hidden, teacher.hidden)
                loss = student.map(
                    lambda logits, labels: functional.cross_entropy(logits.float(), labels)[None]
                )
            return list(torch.autograd.grad(loss.sum(), list(module.trained_parameters().values())))

        before = {n: p.detach().clone() for n, p in module.model.named_parameters()}
        for plain, taught in zip(gradient(False), gradient(True), strict=True):
            assert torch.equal(plain, taught)
        assert all(torch.equal(before[n], p) for n, p in module.model.named_parameters())
        assert module.model.training

    look_at(tiny, tmp_path, look, precision="bf16-mixed")


def test_a_teacher_with_another_head_uses_that_head(tiny: Path, tmp_path: Path) -> None:
    def look(module: ContinualLMM) -> None:
        batch = batch_of(module)
        doubled = {
            n: 2 * p.detach() for n, p in module.trained_parameters().items() if n.endswith("lm_head.weight")
        }
        if not doubled:  # tied: the embedding would double the inputs as well
            pytest.skip("the checkpoint's head is tied to its embedding")
        teacher, student = module.token_outputs(batch, weights=doubled), module.token_outputs(batch)
        torch.testing.assert_close(teacher.head(teacher.hidden), 2 * student.head(student.hidden))

    look_at(tiny, tmp_path, look, recipe="llm")


def test_masters_are_fp32_and_frozen_tensors_keep_their_dtype(tmp_path: Path) -> None:
    from transformers import AutoModelForImageTextToText

    folder = tiny_checkpoint(tmp_path / "tiny")
    AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)

    def look(module: ContinualLMM) -> None:
        ever = set(module.ever_trained())
        assert ever > set(module.trained), (
            "the second task trains other tensors, and their masters are there already"
        )
        for name, parameter in module.model.named_parameters():
            assert parameter.dtype == (torch.float32 if name in ever else torch.bfloat16), name
            assert parameter.requires_grad == (name in module.trained), name

    look_at(folder, tmp_path / "run", look, precision="bf16-mixed")


def test_the_model_trains_in_train_mode_so_that_activation_checkpointing_works(
    tiny: Path, tmp_path: Path
) -> None:
    calls = {True: 0, False: 0}

    def look_with(checkpointing: bool) -> Look:
        def look(module: ContinualLMM) -> None:
            layer = module.model.get_submodule(module.anatomy.decoder_layers[0])
            attention = next(child for name, child in layer.named_modules() if name.endswith("self_attn"))
            attention.register_forward_pre_hook(
                lambda *_: calls.__setitem__(checkpointing, calls[checkpointing] + 1)
            )
            module.token_outputs(batch_of(module)).hidden.sum().backward()

        return look

    for checkpointing in (False, True):
        run = tmp_path / str(checkpointing)
        look_at(tiny, run, look_with(checkpointing), activation_checkpointing=checkpointing)
    assert calls == {False: 1, True: 2}


def test_what_gets_no_gradient_is_found_frozen_and_listed(tiny: Path, tmp_path: Path) -> None:
    def look(module: ContinualLMM) -> None:
        assert module.without_gradient, "SigLIP's pooling head or last layers never get one in LLaVA"
        assert not set(module.without_gradient) & set(module.trained)
        loss = module.token_outputs(batch_of(module)).hidden.sum()
        loss.backward()
        for name, parameter in module.model.named_parameters():
            assert parameter.requires_grad == (name in module.trained)
            if name in module.trained:
                assert parameter.grad is not None, name

    look_at(tiny, tmp_path, look, recipe="full")


def test_one_step_follows_the_gradient_of_the_mean_over_all_answer_tokens(tiny: Path, tmp_path: Path) -> None:
    """An independent reference: the plain model, one sample at a time, summed by hand."""
    gradients: dict[str, Tensor] = {}

    class Catch(Mitigation):
        @override
        def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
            gradients.update({n: p.grad.clone() for n, p in pl_module.trained_parameters().items()})
            raise Enough

    module = toy_module(tiny, tmp_path)
    data = toy_data(micro_batch_size=3)
    trainer = toy_trainer(callbacks=[Catch()])
    with pytest.raises(Enough):
        trainer.fit(module, data)
    data.begin(0, data.train_rows(0), 0, 0)
    ids = {
        i
        for batch, _ in zip(data.loader(0, 1), range(data.steps.forwards(data.tasks[0], 1)), strict=False)
        for i in batch.ids
    }
    rows = [row for row in data.train_rows(0) if row.id in ids]
    assert len(rows) == 8
    reference = type(module.model).from_pretrained(tiny, attn_implementation="eager")  # type: ignore[attr-defined]  # transformers
    total, count = torch.zeros(()), 0
    for row in rows:
        batch = data.collator.train([row])
        assert batch.labels is not None
        logits, labels = reference(**batch.inputs).logits[:, :-1].flatten(0, 1), batch.labels[:, 1:].flatten()
        total = total + functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
        count += int((labels != IGNORED).sum())
    (total / count).backward()
    expected = {n: p.grad for n, p in reference.named_parameters() if n in gradients}
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-7)


def test_a_weight_penalty_adds_its_gradient_once_whatever_the_number_of_micro_batches(
    tiny: Path, tmp_path: Path
) -> None:
    found = []

    class Pull(Mitigation):
        @override
        def weight_penalty(self, name: str, shard: Tensor) -> Tensor:
            return 3.0 * shard.sum()

    class Catch(Mitigation):
        @override
        def token_loss(self, module: ContinualLMM, batch: Batch, outputs: TokenOutputs) -> Tensor:
            return 0.0 * outputs.hidden.sum(dim=-1)

        @override
        def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *arguments: Any) -> None:
            if trainer.global_step == 1:
                found.append({n: p.grad.clone() for n, p in pl_module.trained_parameters().items()})
                raise Enough

    for callbacks in ([Catch()], [Pull(), Catch()]):
        trainer = toy_trainer(callbacks=callbacks, gradient_clip_val=None)
        with pytest.raises(Enough):
            trainer.fit(toy_module(tiny, tmp_path / str(len(callbacks))), toy_data(micro_batch_size=3))
    plain, pulled = found
    for name, gradient in plain.items():
        torch.testing.assert_close(pulled[name], gradient + 3.0, rtol=1e-5, atol=1e-5)


def test_a_loss_that_is_not_finite_names_task_and_step(tiny: Path, tmp_path: Path) -> None:
    class Break(Mitigation):
        @override
        def token_loss(self, module: ContinualLMM, batch: Batch, outputs: TokenOutputs) -> Tensor | None:
            return outputs.hidden.sum(dim=-1) * (float("nan") if module.trainer.global_step == 1 else 0.0)

    with pytest.raises(UserError, match="loss or gradient of task first is not finite at optimizer step 2"):
        toy_trainer(callbacks=[Break()]).fit(toy_module(tiny, tmp_path), toy_data())


def test_select_changes_what_a_task_trains_on(tiny: Path, tmp_path: Path) -> None:
    seen: list[str] = []

    class Half(Mitigation):
        @override
        def select(
            self, trainer: Trainer, module: ContinualLMM, task: Task, rows: Sequence[Row]
        ) -> Sequence[Row]:
            return rows[:8]

        @override
        def before_forward(self, module: ContinualLMM, batch: Batch) -> None:
            seen.extend(batch.ids)

    toy_trainer(callbacks=[Half()]).fit(toy_module(tiny, tmp_path), toy_data())
    rows = [*toy_task("first", 0).source.split("train")[:8], *toy_task("second", 1).source.split("train")[:8]]
    assert sorted(seen) == sorted(row.id for row in rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0.0}, r"model.lr must be above 0, got 0.0"),
        ({"lr": float("inf")}, r"model.lr must be above 0, got inf"),
        ({"weight_decay": -0.1}, r"model.weight_decay must be a number from 0, got -0.1"),
        ({"betas": (0.9, 1.0)}, r"model.betas must be two numbers in \[0, 1\), got \(0.9, 1.0\)"),
        ({"betas": (-0.1, 0.9)}, r"model.betas must be two numbers in \[0, 1\)"),
        ({"seed": -1}, r"seed must be a whole number from 0, got -1"),
        ({"max_length": 0}, r"model.max_length must be at least 1, got 0"),
        ({"warmup_ratio": 1.0}, r"model.warmup_ratio must lie in \[0, 1\), got 1.0"),
        ({"checkpoint_every_n_steps": 0}, "model.checkpoint_every_n_steps must be at least 1, got 0"),
        ({"schedule": "linear"}, "model.schedule must be one of cosine, constant, got 'linear'"),
        ({"path": "no/such-model"}, "model.path: could not load no/such-model"),
    ],
)
def test_a_wrong_value_is_named(options: dict[str, Any], message: str, tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        ContinualLMM(**{"path": str(tiny), "run": tmp_path, **options})


def test_a_run_in_the_home_folder_is_not_a_folder_called_tilde(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ContinualLMM(str(tiny), run="~/runs/first").run_path == tmp_path / "runs" / "first"
