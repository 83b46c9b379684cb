"""In every family each recipe trains, a killed run goes on, and an export answers as the stage did."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from lmmcl import ContinualLMM, TaskSequenceDataModule
from lmmcl.callbacks import HeldOutEvaluation, LwF, WiSEFT
from lmmcl.data.batches.collate import Collator
from lmmcl.evaluation.generate import generate
from lmmcl.export.stage import export
from lmmcl.structure.anatomy import Anatomy
from lmmcl.structure.recipe import RECIPES, Recipe
from tests.families.conftest import Kit
from tests.families.rows import task
from tests.toy import toy_trainer
from tests.two_processes import Killed, KillerAtStep

pytestmark = pytest.mark.usefixtures("no_report")

STEPS = 2
STUDY = ["sa_proj", "mlp_gate_up"]
REST = [name for name in [*RECIPES, "last_1", "first_1_frozen"] if name not in STUDY]


def fit(kit: Kit, run: Path, recipes: list[str], *callbacks: Callback, **options: Any) -> ContinualLMM:
    tasks = [
        task(name, kit.shapes, shift, recipe=name, batch_size=4 // STEPS)
        for shift, name in enumerate(recipes)
    ]
    module = ContinualLMM(
        str(kit.path), run=run, lr=1e-2, checkpoint_every_n_steps=1, warmup_ratio=0.0, **options
    )
    toy_trainer(callbacks=list(callbacks)).fit(module, TaskSequenceDataModule(tasks, max_eval_samples=4))
    return module


def changed(kit: Kit, run: Path, stage: str) -> set[str]:
    """Names of the tensors that the stage holds with other values than the checkpoint."""
    base = dict(kit.model.named_parameters())
    held = load_file(run / "stages" / stage / "weights.safetensors")
    return {name for name, value in held.items() if not torch.equal(value, base[name])}


def parts(kill_at: int | None) -> list[Callback]:
    """The study's mitigations; the process ends at a step if asked to."""
    return [KillerAtStep(kill_at), HeldOutEvaluation(), LwF(), WiSEFT(alpha=0.3)]


@pytest.fixture(scope="module")
def whole(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study's two recipes with LwF and WiSE-FT, evaluated at every stage."""
    run = tmp_path_factory.mktemp("whole") / "run"
    fit(kit, run, STUDY, *parts(None))
    return run


def test_the_studys_recipes_train_with_its_mitigations(kit: Kit, whole: Path) -> None:
    anatomy = Anatomy.of(kit.model)
    wanted = [set(Recipe.parse(name).resolve(anatomy)) for name in STUDY]
    assert changed(kit, whole, f"01-{STUDY[0]}") == wanted[0]
    assert changed(kit, whole, f"02-{STUDY[1]}") == wanted[0] | wanted[1]


def test_a_killed_run_goes_on_and_ends_the_same(kit: Kit, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(Killed):
        fit(kit, run, STUDY, *parts(STEPS + 1))
    fit(kit, run, STUDY, *parts(None), resume=True)
    for stage in (f"01-{STUDY[0]}", f"02-{STUDY[1]}"):
        one, other = (load_file(path / "stages" / stage / "weights.safetensors") for path in (whole, run))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_an_export_answers_as_the_stage_did(kit: Kit, whole: Path, tmp_path: Path, dtype: str | None) -> None:
    export(whole, None, tmp_path / "model", dtype)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "model").eval()
    processor = AutoProcessor.from_pretrained(tmp_path / "model")
    assert model.dtype == (torch.bfloat16 if dtype else torch.float32)
    name = STUDY[0]
    rows = task(name, kit.shapes, 0).source.split("test")
    answers = generate(model, processor, Collator(processor, None).prompts(rows), 6)
    assert len(answers) == len(rows)
    if dtype is None:
        kept = (whole / "predictions" / f"02-{STUDY[1]}" / f"{name}.jsonl").read_text().splitlines()
        assert sorted(answers) == sorted(json.loads(line)["prediction"] for line in kept)


@pytest.mark.slow
def test_every_other_recipe_trains(kit: Kit, tmp_path: Path) -> None:
    fit(kit, tmp_path / "run", REST)
    anatomy = Anatomy.of(kit.model)
    trained: set[str] = set()
    for number, name in enumerate(REST, start=1):
        wanted = set(Recipe.parse(name).resolve(anatomy))
        trained |= wanted
        found = changed(kit, tmp_path / "run", f"{number:02}-{name}")
        assert found <= trained
        assert found & wanted


def test_a_bf16_checkpoint_trains_under_autocast_with_activation_checkpointing(
    kit: Kit, tmp_path: Path
) -> None:
    model = AutoModelForImageTextToText.from_pretrained(kit.path, dtype=torch.bfloat16)
    model.save_pretrained(tmp_path / "model")
    kit.processor.save_pretrained(tmp_path / "model")
    module = ContinualLMM(
        str(tmp_path / "model"), "sa_proj", lr=1e-3, run=tmp_path / "run", activation_checkpointing=True
    )
    data = TaskSequenceDataModule([task("full", kit.shapes, batch_size=2)], max_eval_samples=2)
    toy_trainer(precision="bf16-mixed", callbacks=[HeldOutEvaluation()]).fit(module, data)
    held = load_file(tmp_path / "run" / "stages" / "01-full" / "weights.safetensors")
    assert {value.dtype for value in held.values()} == {torch.float32}
    assert (tmp_path / "run" / "predictions" / "01-full" / "full.jsonl").exists()
