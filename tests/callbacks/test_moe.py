"""MoE: it begins as the base model, trains copies and routers only, and is read again by who has it in the config."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForImageTextToText

from lmmcl import ContinualLMM, TaskSequenceDataModule
from lmmcl.callbacks import EMA, EWC, SFA, LoRA, LwF, MoE, MoELoRA, WiSEFT
from lmmcl.conflicts import check_conflicts
from lmmcl.errors import UserError
from lmmcl.export.stage import export
from lmmcl.loading import Checkpoint
from lmmcl.preflight.adapters import Adapted
from lmmcl.preflight.memory import Place, need_of
from lmmcl.report.plan import memory_of
from lmmcl.structure.anatomy import Anatomy
from lmmcl.structure.recipe_table import on_meta
from tests.callbacks.adapted import logits, measured_again
from tests.callbacks.laws import STAGES, law_data, law_fit, law_weights
from tests.toy import toy_module, toy_task, toy_trainer

MLP = "model.language_model.layers.{}.mlp"


@pytest.fixture(scope="module")
def base(tiny: Path) -> dict[str, Tensor]:
    return dict(AutoModelForImageTextToText.from_pretrained(tiny).named_parameters())


@pytest.fixture(scope="module")
def both(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> ContinualLMM:
    """A run of the laws' sequence: attention; gate and up of the MLPs; all of these."""
    return law_fit(tiny, tmp_path_factory.mktemp("runs") / "both", [MoE()])


@pytest.fixture(scope="module")
def one(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> ContinualLMM:
    """The same, measured with the likelier expert alone."""
    return law_fit(tiny, tmp_path_factory.mktemp("runs") / "one", [MoE(top_k_eval=1)])


@pytest.mark.parametrize("top_k_eval", [1, 2])
def test_it_begins_as_the_base_model_bit_for_bit(top_k_eval: int, tiny: Path, tmp_path: Path) -> None:
    plain = logits(law_fit(tiny, tmp_path / "plain", [], kill_at=0))
    found = logits(law_fit(tiny, tmp_path / "moe", [MoE(top_k_eval)], kill_at=0))
    assert torch.equal(found, plain)


def test_a_stage_holds_copies_and_routers_and_what_the_recipe_trains_beside_the_mlps(
    both: ContinualLMM, base: dict[str, Tensor]
) -> None:
    attention = {name for name in base if "language_model.layers" in name and "self_attn" in name}
    copies = {
        f"{MLP.format(layer)}.{part}"
        for layer in (0, 1)
        for part in ("expert.gate_proj.weight", "expert.up_proj.weight", "router.weight", "router.bias")
    }
    held = [load_file(both.run_path / "stages" / stage / "weights.safetensors") for stage in STAGES]
    assert held[0].keys() == attention
    assert held[1].keys() == held[2].keys() == attention | copies
    assert all(tensor.dtype == torch.float32 for tensor in held[2].values())


def test_the_mlps_themselves_keep_their_names_and_their_bytes(
    both: ContinualLMM, base: dict[str, Tensor]
) -> None:
    now = both.parameters_by_name()
    assert base.keys() <= now.keys()
    assert all(torch.equal(now[name], value) for name, value in base.items() if "self_attn" not in name)
    copy = f"{MLP.format(0)}.expert.down_proj.weight"  # no recipe of the sequence chooses it
    assert torch.equal(now[copy], base[copy.replace(".expert", "")])


def test_routers_begin_small_each_with_values_of_its_own_and_without_a_bias(
    tiny: Path, both: ContinualLMM, tmp_path: Path
) -> None:
    began = law_fit(tiny, tmp_path / "began", [MoE()], kill_at=0).parameters_by_name()
    routers = [began[f"{MLP.format(layer)}.router.weight"].detach() for layer in (0, 1)]
    assert all(0.012 < float(router.std()) < 0.028 for router in routers)
    assert not torch.equal(*routers)
    assert not any(began[f"{MLP.format(layer)}.router.bias"].any() for layer in (0, 1))
    first = law_weights(both.run_path)["02-second"]
    assert all(not torch.equal(first[n], began[n]) for n in first if "router" in n)


def test_training_takes_both_experts_however_many_it_is_measured_with(
    both: ContinualLMM, one: ContinualLMM
) -> None:
    mine, other = law_weights(one.run_path), law_weights(both.run_path)
    assert all(torch.equal(mine[s][n], t) for s, tensors in other.items() for n, t in tensors.items())
    assert (logits(one) - logits(both)).abs().max() > 1e-3


def test_a_stage_is_measured_again_with_moe_in_the_config(
    both: ContinualLMM, one: ContinualLMM, tiny: Path, tmp_path: Path
) -> None:
    assert torch.equal(measured_again(tiny, both.run_path, 3, [MoE()], tmp_path), logits(both))
    assert torch.equal(measured_again(tiny, both.run_path, 3, [MoE(1)], tmp_path), logits(one))
    began = measured_again(tiny, both.run_path, 0, [MoE()], tmp_path)
    assert not torch.equal(began, logits(both))


def test_without_moe_a_stage_is_refused_with_the_reason_and_so_is_an_export(
    both: ContinualLMM, tiny: Path, tmp_path: Path
) -> None:
    words = "cannot be written as plain weights: MoE's routers choose between an MLP and its copy"
    with pytest.raises(UserError, match=words):
        measured_again(tiny, both.run_path, 3, [], tmp_path / "empty")
    with pytest.raises(UserError, match=words):
        export(both.run_path, None, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_under_bf16_copies_and_routers_are_masters_in_fp32(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny, tmp_path / "bf16")
    AutoModelForImageTextToText.from_pretrained(tiny, dtype=torch.bfloat16).save_pretrained(tmp_path / "bf16")
    module = toy_module(tmp_path / "bf16", tmp_path / "run", recipe="mlp", activation_checkpointing=True)
    tasks = [toy_task("only", 0, max_train_samples=8)]
    toy_trainer(callbacks=[MoE()], precision="bf16-mixed").fit(
        module, TaskSequenceDataModule(tasks, batch_size=4)
    )
    parameters = module.parameters_by_name()
    assert module.trained.keys() == {name for name, p in parameters.items() if p.dtype == torch.float32}
    assert module.trained.keys() == {name for name in parameters if ".expert." in name or ".router." in name}


def test_the_plan_and_preflight_count_what_it_adds(both: ContinualLMM, tiny: Path, tmp_path: Path) -> None:
    model = on_meta(Checkpoint(str(tiny)))
    module = toy_module(tiny, tmp_path)
    found = Adapted(module, law_data(), model, Anatomy.of(model), [MoE()])
    assert found.anatomy.numel == {name: p.numel() for name, p in both.parameters_by_name().items()}
    tasks = [both.trained_by(task).keys() for task in both.data.tasks]
    assert [names.keys() for names in found.trained] == tasks
    most = sum(found.anatomy.numel[name] for name in found.trained[2])
    need = need_of(found.anatomy, None, found.trained, 4, Place(), None)
    assert (need.gradients, need.optimizer) == (4 * most, 8 * most)
    memory = memory_of(both)
    assert memory.state == 12 * most and memory.weights == 4 * sum(found.anatomy.numel.values())


def test_a_teacher_is_the_model_as_it_is_measured(tiny: Path, tmp_path: Path) -> None:
    """At the first step of a task student and teacher are one: KL 0; an EWC beside it measures a whole gradient."""
    law_fit(tiny, tmp_path, [MoE(), LwF(), EWC(batches=1)])
    lines = [line.split(",") for line in (tmp_path / "logs" / "metrics.csv").read_text().splitlines()]
    terms = [float(line[lines[0].index("LwF")]) for line in lines[1:]]
    assert all(abs(terms[step]) < 1e-6 < terms[step + 2] for step in (0, 3, 6))


def test_a_recipe_without_an_mlp_is_refused_before_anything_is_trained(tiny: Path, tmp_path: Path) -> None:
    module = toy_module(tiny, tmp_path, recipe="sa_proj")
    with pytest.raises(UserError, match="no task's recipe chooses any"):
        toy_trainer(callbacks=[MoE()]).fit(module, TaskSequenceDataModule([toy_task("one", 0)]))


@pytest.mark.parametrize("other", [LoRA(), MoELoRA(), MoE(name="second")], ids=lambda other: other.name)
def test_two_that_change_the_structure_are_refused_and_all_others_stack(other: Callback) -> None:
    with pytest.raises(UserError, match=r"MoE and .* cannot work together: both change the structure"):
        check_conflicts([MoE(), other])
    others: list[Any] = [LwF(), EWC(), SFA(), EMA(), WiSEFT()]
    check_conflicts([MoE(), *others])
