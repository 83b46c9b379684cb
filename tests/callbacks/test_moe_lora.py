"""MoELoRA: it begins as the base model, goes on from task to task, and cannot be folded or averaged."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForImageTextToText

from lmmcl import ContinualLMM, TaskSequenceDataModule
from lmmcl.adapters.lora_experts import ExpertLinear
from lmmcl.callbacks import EMA, EWC, SFA, LoRA, LwF, MoELoRA, OLoRA, WiSEFT
from lmmcl.conflicts import check_conflicts
from lmmcl.errors import UserError
from lmmcl.export.stage import export
from lmmcl.loading import Checkpoint
from lmmcl.preflight.adapters import Adapted
from lmmcl.structure.anatomy import Anatomy
from lmmcl.structure.recipe_table import on_meta
from tests.callbacks.adapted import logits, measured_again
from tests.callbacks.laws import STAGES, law_data, law_fit
from tests.toy import toy_module, toy_task, toy_trainer


def method(name: str | None = None) -> MoELoRA:
    return MoELoRA(rank=4, experts=2, alpha=8.0, dropout=0.2, name=name)


@pytest.fixture(scope="module")
def base(tiny: Path) -> dict[str, Tensor]:
    return dict(AutoModelForImageTextToText.from_pretrained(tiny).named_parameters())


@pytest.fixture(scope="module")
def run(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> ContinualLMM:
    return law_fit(tiny, tmp_path_factory.mktemp("runs") / "run", [method()])


def held(run: Path) -> list[dict[str, Tensor]]:
    return [load_file(run / "stages" / stage / "weights.safetensors") for stage in STAGES]


def test_it_begins_as_the_base_model_bit_for_bit(tiny: Path, tmp_path: Path) -> None:
    plain = logits(law_fit(tiny, tmp_path / "plain", [], kill_at=0))
    assert torch.equal(logits(law_fit(tiny, tmp_path / "experts", [method()], kill_at=0)), plain)


def test_a_stage_holds_the_experts_of_the_linears_that_its_tasks_adapted(
    run: ContinualLMM, base: dict[str, Tensor]
) -> None:
    layers = [name for name in base if "language_model.layers" in name and name.endswith("proj.weight")]
    adapted = {
        "self_attn": [name for name in layers if "self_attn" in name],
        "mlp": [name for name in layers if "gate_proj" in name or "up_proj" in name],
    }
    names = {
        kind: {
            name.replace(".weight", f".{part}.weight")
            for name in chosen
            for part in ("experts_A", "experts_B", "router")
        }
        for kind, chosen in adapted.items()
    }
    stages = held(run.run_path)
    assert stages[0].keys() == names["self_attn"]
    assert stages[1].keys() == stages[2].keys() == names["self_attn"] | names["mlp"]
    assert set(run.trained.values()) == {
        f"llm.{g}.experts" for g in ("attn.q", "attn.k", "attn.v", "attn.o", "mlp.gate", "mlp.up")
    }
    now = run.parameters_by_name()
    assert all(torch.equal(now[name], value) for name, value in base.items())


def test_the_third_task_goes_on_with_the_experts_of_the_first(run: ContinualLMM) -> None:
    first, second, third = held(run.run_path)
    for name, tensor in first.items():
        assert torch.equal(second[name], tensor)  # the second task adapts other linears
        assert 0 < float((third[name] - tensor).norm()) < 2 * float(tensor.norm())


def test_dropout_is_on_where_a_task_trains_and_a_resume_draws_the_same(
    run: ContinualLMM, tiny: Path, tmp_path: Path
) -> None:
    killed = law_fit(tiny, tmp_path, [method()], kill_at=4)
    rates = {n: m.dropout.p for n, m in killed.model.named_modules() if isinstance(m, ExpertLinear)}
    assert {name: 0.2 if "mlp" in name else 0.0 for name in rates} == rates
    law_fit(tiny, tmp_path, [method()], resume=True)
    for stage in STAGES:
        for file in ("weights.safetensors", "lineage.json"):
            mine, other = (path / "stages" / stage / file for path in (tmp_path, run.run_path))
            assert mine.read_bytes() == other.read_bytes(), (stage, file)
    ended = [m.dropout.p for m in run.model.modules() if isinstance(m, ExpertLinear)]
    assert ended and not any(ended)


def test_a_stage_is_measured_again_with_it_in_the_config_and_refused_without(
    run: ContinualLMM, tiny: Path, tmp_path: Path
) -> None:
    assert torch.equal(measured_again(tiny, run.run_path, 3, [method()], tmp_path / "with"), logits(run))
    words = "cannot be written as plain weights: MoELoRA's routers weigh its experts anew"
    with pytest.raises(UserError, match=words):
        measured_again(tiny, run.run_path, 3, [], tmp_path / "without")
    with pytest.raises(UserError, match=words):
        export(run.run_path, None, tmp_path / "out")


def test_preflight_counts_what_it_adds(run: ContinualLMM, tiny: Path, tmp_path: Path) -> None:
    model = on_meta(Checkpoint(str(tiny)))
    found = Adapted(toy_module(tiny, tmp_path), law_data(), model, Anatomy.of(model), [method()])
    assert found.anatomy.numel == {name: p.numel() for name, p in run.parameters_by_name().items()}
    assert [names.keys() for names in found.trained] == [
        run.trained_by(task).keys() for task in run.data.tasks
    ]


def test_a_recipe_of_more_than_linears_is_refused_with_the_way_out(tiny: Path, tmp_path: Path) -> None:
    module = toy_module(tiny, tmp_path, recipe="llm")
    with pytest.raises(UserError, match=r"(?s)MoELoRA adapts linear layers only.*embed_tokens.*llm\.mlp\.up"):
        toy_trainer(callbacks=[method()]).fit(module, TaskSequenceDataModule([toy_task("one", 0)]))


@pytest.mark.parametrize(
    "other", [WiSEFT(), EMA(), SFA(), LoRA(), OLoRA(), method(name="second")], ids=lambda other: other.name
)
def test_what_mixes_tensors_or_adapts_them_too_is_refused(other: Callback) -> None:
    with pytest.raises(UserError, match="cannot work together"):
        check_conflicts([method(), other])
    check_conflicts([method(), LwF(), EWC(), WiSEFT(0.0), SFA(0.0), EMA(1.0)])
