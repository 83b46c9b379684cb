"""In every family a teacher and its student share one pass of the tower, and kept features give what the tower does."""

from pathlib import Path
from types import SimpleNamespace

import torch
from transformers import AutoModelForImageTextToText

from lmmcl.evaluation.feature_folder import FeatureFolder
from lmmcl.evaluation.generate import generate
from lmmcl.evaluation.kept_batch import KeptBatch
from lmmcl.evaluation.kept_features import KeptFeatures
from lmmcl.losses import cross_entropy
from lmmcl.outputs.forward import AnswerForward
from lmmcl.outputs.row_features import RowFeatures
from lmmcl.sequence.row_proof import prove_rows
from lmmcl.structure.anatomy import Anatomy
from lmmcl.structure.picture_path import PicturePath
from lmmcl.structure.recipe import Recipe
from lmmcl.weights import parameters_of
from tests.families.conftest import Kit

LENGTH = 4


def test_teacher_and_student_share_one_pass_and_find_the_same(kit: Kit) -> None:
    found, passes = [], []
    for shares in (True, False):
        model = AutoModelForImageTextToText.from_pretrained(kit.path, dtype=torch.float32)
        anatomy = Anatomy.of(model)
        trained = Recipe.parse("sa_proj").resolve(anatomy)
        parameters = parameters_of(model)
        for name, parameter in parameters.items():
            parameter.requires_grad_(name in trained)
        teacher = {name: parameters[name].detach() * 1.1 for name in trained}
        forwards = AnswerForward(model, False, anatomy if shares else None)
        ran: list[None] = []
        block = model.get_submodule(anatomy.vision_blocks[-1])
        block.register_forward_hook(lambda *arguments, ran=ran: ran.append(None))
        model.train()
        batch = kit.collator.train([make(str(number), number) for number, make in enumerate(kit.shapes)])
        taught = forwards.token_outputs(batch, weights=teacher)
        outputs = forwards.token_outputs(batch)
        outputs.map(cross_entropy).sum().backward()
        gradients = [parameters[name].grad for name in trained if parameters[name].grad is not None]
        found.append([taught.hidden, outputs.hidden, *gradients])
        passes.append(len(ran))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert passes[1] == 2 * passes[0]


def test_kept_features_give_the_same_answers_without_the_tower(kit: Kit, tmp_path: Path) -> None:
    anatomy = Anatomy.of(kit.model)
    rows = [make(str(number), number) for number, make in enumerate(kit.shapes)]
    plain = generate(kit.model, kit.processor, kit.collator.prompts(rows), LENGTH)
    for again in (False, True):
        features = KeptFeatures(FeatureFolder(tmp_path, 1 << 30), kit.model, anatomy, kit.processor, {})
        features.begin()
        prompts = features.prompts(kit.collator.prompts, rows)
        assert isinstance(prompts.found, KeptBatch) == again
        ran: list[None] = []
        block = kit.model.get_submodule(anatomy.vision_blocks[-1])
        handle = block.register_forward_hook(lambda *arguments, ran=ran: ran.append(None))
        assert features.answers(prompts, LENGTH) == plain
        handle.remove()
        assert bool(ran) != again


def test_features_of_rows_make_those_of_any_batch_of_them(kit: Kit, tmp_path: Path) -> None:
    anatomy = Anatomy.of(kit.model)
    forwards, path = AnswerForward(kit.model, False, anatomy), PicturePath(kit.model, anatomy)
    runner = SimpleNamespace(
        data=SimpleNamespace(collator=kit.collator),
        device=torch.device("cpu"),
        inference=forwards.inference,
        token_outputs=forwards.token_outputs,
        free_gathered=forwards.free_gathered,
    )
    rows = [make(str(number), number) for number, make in enumerate((*kit.shapes, kit.shapes[0]))]
    pictured = [row for row in rows if row.images]
    points, joint, words = prove_rows(runner, path, pictured)  # type: ignore[arg-type]  # a model without a run
    plain = [forwards.token_outputs(kit.collator.train(some)).hidden for some in (rows, rows[::-1])]
    features = RowFeatures(path, points, joint, "", FeatureFolder(tmp_path, 1 << 30), words)
    forwards.row_features = features
    batches = [kit.collator.train(some, apart=True) for some in (rows, rows[::-1], rows)]
    first, turned, again = (forwards.token_outputs(batch).hidden for batch in batches)
    assert len(list(tmp_path.iterdir())) == len(pictured)
    assert torch.equal(first, again)
    for found, wanted in zip((first, turned), plain, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
