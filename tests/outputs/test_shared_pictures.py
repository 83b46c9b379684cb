"""A teacher and its student run a frozen tower once in a step, and find the same as though each ran its own."""

import gc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText

from lmmcl.data.batches.batch import Batch
from lmmcl.data.batches.collate import Collator
from lmmcl.data.row import Row
from lmmcl.loading import Checkpoint
from lmmcl.losses import cross_entropy
from lmmcl.outputs.forward import AnswerForward
from lmmcl.structure.anatomy import Anatomy
from lmmcl.structure.recipe import Recipe
from lmmcl.weights import parameters_of
from tests.toy import ToySource

TOWER = "model.vision_tower"


class Student:
    """A model in train mode, its teacher's weights, and how often its tower ran."""

    def __init__(
        self,
        checkpoint: Path,
        recipe: str,
        shares: bool = True,
        change: Callable[[Any], object] | None = None,
    ) -> None:
        self.model: Any = AutoModelForImageTextToText.from_pretrained(checkpoint, attn_implementation="eager")
        self.anatomy = Anatomy.of(self.model)
        names = Recipe.parse(recipe).resolve(self.anatomy)
        for name, parameter in parameters_of(self.model).items():
            parameter.requires_grad_(name in names)
        if change is not None:
            change(self.model.get_submodule(TOWER))
        self.forwards = AnswerForward(self.model, False, self.anatomy if shares else None)
        self.model.train()
        noise = torch.Generator().manual_seed(1)
        self.teacher = {
            name: p.detach() + 0.02 * torch.randn(p.shape, generator=noise)
            for name, p in parameters_of(self.model).items()
            if name in names
        }
        self.passes = 0
        self.model.get_submodule(self.anatomy.vision_blocks[-1]).register_forward_hook(self._count)

    def _count(self, *arguments: Any) -> None:
        self.passes += 1

    def step(self, batch: Batch) -> list[Tensor]:
        """What teacher and student find, and the student's gradients."""
        taught = self.forwards.token_outputs(batch, weights=self.teacher)
        outputs = self.forwards.token_outputs(batch)
        outputs.map(cross_entropy).sum().backward()
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        return [taught.hidden, outputs.hidden.detach(), *gradients]


@pytest.fixture(scope="module")
def batches(tiny: Path) -> list[Batch]:
    rows: list[Row] = list(ToySource(0, text=True).split("train"))
    collator = Collator(Checkpoint(str(tiny)).processor(), None)
    return [collator.train(rows[i : i + 3]) for i in (0, 3)]


def equal(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(("recipe", "passes"), [("sa_proj", 2), ("llm", 2), ("projector", 2), ("full", 4)])
def test_what_is_frozen_runs_once_and_all_find_the_same(
    recipe: str, passes: int, tiny: Path, batches: list[Batch]
) -> None:
    sharing, apart = Student(tiny, recipe), Student(tiny, recipe, shares=False)
    for batch in batches:
        assert equal(sharing.step(batch), apart.step(batch))
    assert (sharing.passes, apart.passes) == (passes, 4)


def test_a_teacher_with_another_tower_runs_it_itself(tiny: Path, batches: list[Batch]) -> None:
    sharing, apart = Student(tiny, "sa_proj"), Student(tiny, "sa_proj", shares=False)
    for student in (sharing, apart):
        name = student.anatomy.vision[3]
        student.teacher[name] = parameters_of(student.model)[name].detach() * 1.5
    assert equal(sharing.step(batches[0]), apart.step(batches[0]))
    assert sharing.passes == 2


def _drop(tower: Any) -> None:
    tower.encoder.layers[0].self_attn.dropout = 0.5


def _normalise(tower: Any) -> None:
    convolution = tower.embeddings.patch_embedding
    convolution.norm = nn.BatchNorm2d(32, affine=False)
    convolution.register_forward_hook(lambda module, arguments, output: module.norm(output))


def _adapt(tower: Any) -> None:
    tower.encoder.layers[0].mlp.lora_A = nn.Parameter(torch.ones(1))


@pytest.mark.parametrize("change", [_drop, _normalise, _adapt])
def test_a_tower_that_trains_otherwise_or_has_adapters_is_not_shared(
    change: Callable[[Any], object], tiny: Path, batches: list[Batch]
) -> None:
    found = []
    for shares in (True, False):
        torch.manual_seed(0)
        student = Student(tiny, "sa_proj", shares, change)
        found.append(student.step(batches[0]))
        assert student.passes == 2
    assert equal(*found)


def test_several_teachers_and_their_student_share_one_pass(tiny: Path, batches: list[Batch]) -> None:
    student = Student(tiny, "sa_proj")
    student.forwards.token_outputs(batches[0], weights=student.teacher)
    student.step(batches[0])
    assert student.passes == 1


def test_another_batch_gets_features_of_its_own(tiny: Path, batches: list[Batch]) -> None:
    student, apart = Student(tiny, "sa_proj"), Student(tiny, "sa_proj", shares=False)
    student.forwards.token_outputs(batches[0], weights=student.teacher)
    with torch.no_grad():
        mine, other = (one.forwards.token_outputs(batches[1]).hidden for one in (student, apart))
    assert torch.equal(mine, other)
    assert student.passes == 2


def test_nothing_is_held_behind_the_students_forward_or_the_batch(tiny: Path, batches: list[Batch]) -> None:
    student = Student(tiny, "sa_proj")
    shared = student.forwards._shared
    assert shared is not None
    student.step(batches[0])
    assert shared._held is None
    inputs = {key: value.clone() for key, value in batches[0].inputs.items()}
    passing = Batch(inputs, batches[0].labels)
    student.forwards.token_outputs(passing, weights=student.teacher)
    assert shared._held is not None
    del passing, inputs
    gc.collect()
    assert shared._held is None


def test_features_that_were_written_into_are_not_given(tiny: Path, batches: list[Batch]) -> None:
    student, apart = Student(tiny, "sa_proj"), Student(tiny, "sa_proj", shares=False)
    student.forwards.token_outputs(batches[0], weights=student.teacher)
    shared = student.forwards._shared
    assert shared is not None and shared._held is not None
    shared._held.recording.calls[0][1].pooler_output[0].mul_(2)
    mine, other = (one.forwards.token_outputs(batches[0]).hidden for one in (student, apart))
    assert torch.equal(mine, other)
