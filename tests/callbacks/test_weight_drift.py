"""How far weights moved, and in how many directions."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

import lmmcl.sequence.task_sequence
from lmmcl import Mitigation
from lmmcl.callbacks import LoRA, MoE, WeightDrift, weight_drift
from lmmcl.callbacks.weight_drift import change_ranks, ranks, spread, squares
from lmmcl.errors import UserError
from lmmcl.evaluation.probe_log import read_probes
from lmmcl.mitigation import copied_elements
from tests.callbacks.probed import probed, probed_fit

SHAPES = [(40, 60), (60, 40), (50, 50)]


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("rank", [0, 1, 2, 7])
def test_a_change_of_rank_k_is_found_as_rank_k_whatever_its_size(
    shape: tuple[int, int], size: float, rank: int
) -> None:
    """Although fp32 rounds the changed weights, which makes the change one of full rank in the last digit."""
    base = normal(*shape)
    change = normal(shape[0], rank) @ normal(rank, shape[1]) if rank else torch.zeros(shape)
    assert change_ranks(base, base + size * change).numerical == rank


def test_rounding_alone_has_no_rank() -> None:
    base = normal(30, 30)
    found = change_ranks(base, (base.double() * (1 + 1e-8)).float() + 1e-8)
    assert (found.numerical, found.stable, found.entropy) == (0, 0.0, 0.0)


def test_the_ranks_are_those_of_numpy_s_singular_values() -> None:
    base, change = normal(40, 60), normal(40, 3) @ normal(3, 60)
    found, singular = change_ranks(base, base + change), torch.linalg.svdvals(change.double())
    share = (singular / singular.sum())[:3]
    assert found.stable == pytest.approx(float((singular**2).sum() / singular[0] ** 2), rel=1e-4)
    assert found.entropy == pytest.approx(float((-share * share.log()).sum().exp()), rel=1e-3)


def test_equal_singular_values_have_all_three_ranks_equal() -> None:
    rotation = torch.linalg.qr(normal(12, 12).double())[0]
    found = change_ranks(torch.zeros(12, 12), rotation.float())
    assert found.numerical == 12
    assert found.stable == pytest.approx(12) and found.entropy == pytest.approx(12, rel=1e-5)


def test_ranks_do_not_change_with_the_size_of_the_change() -> None:
    singular = torch.tensor([3.0, 1.0, 0.5])
    one, other = ranks(singular, 0.0), ranks(1000 * singular, 0.0)
    assert one.numerical == other.numerical == 3
    assert one.stable == pytest.approx(other.stable) and one.entropy == pytest.approx(other.entropy)


def test_matrices_are_spread_from_the_first_layer_to_the_last() -> None:
    names = [str(i) for i in range(28)]
    assert spread(names, 4) == ["0", "9", "18", "27"]
    assert spread(names, 1) == ["13"] and spread(names, 99) == names


def test_the_drift_of_a_group_is_that_between_the_checkpoint_and_the_stage(tiny: Path) -> None:
    run = probed(tiny)
    now = load_file(run.path / "stages" / "02-second" / "weights.safetensors")
    base = dict(AutoModelForImageTextToText.from_pretrained(tiny).named_parameters())
    last = run.log("WeightDrift").at_stages[-1].values
    first = run.log("WeightDrift").at_stages[1].values
    groups: dict[str, list[str]] = {}
    for name in now:
        groups.setdefault(run.module.anatomy.group_of(name), []).append(name)
    assert last.keys() == groups.keys()
    for group, names in groups.items():
        pairs = [(now[name], base[name].detach()) for name in names]
        moved = math.hypot(*(float((one - other).norm()) for one, other in pairs))
        still = math.hypot(*(float(other.norm()) for _, other in pairs))
        assert last[group] == pytest.approx(moved / still, rel=1e-5)
        assert (first[group] > 0) == ("attn" in group), "the second task trains the MLP"


def test_a_matrix_too_large_is_not_decomposed_and_that_is_said(tiny: Path) -> None:
    module, said = probed(tiny).module, list[str]()
    probe = WeightDrift(largest=20)
    probe.tensors = dict(probed(tiny).probes[WeightDrift].tensors)
    usual, module.sequence.report_notice = module.sequence.report_notice, said.append
    try:
        groups = probe._groups(module)
        found = {group: probe._ranks(module, group, names) for group, names in groups.items()}
    finally:
        module.sequence.report_notice = usual
    assert set(found["llm.attn.k"]) == {"numerical rank", "stable rank", "entropy rank"}, "16 by 32"
    assert found["llm.attn.q"] == {}
    assert any("no rank of llm.attn.q" in line for line in said)


@pytest.mark.parametrize("options", [{"matrices": -1}, {"largest": 0}])
def test_a_value_out_of_range_is_named(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"WeightDrift.{next(iter(options))}"):
        WeightDrift(**options)


def test_blocks_of_any_size_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    base, now = normal(40, 60), normal(40, 60) + normal(41, 60)[1:]
    whole = change_ranks(base, now), squares(base, now)
    monkeypatch.setattr(weight_drift, "_ROWS_AT_ONCE", 7)
    monkeypatch.setattr(weight_drift, "_ELEMENTS_AT_ONCE", 101)
    found = change_ranks(base, now)
    assert found.numerical == whole[0].numerical and found.entropy == pytest.approx(whole[0].entropy)
    torch.testing.assert_close(squares(base, now), whole[1])
    torch.testing.assert_close(whole[1][0], (now.double() - base.double()).square().sum())


def test_it_says_what_it_keeps(tiny: Path) -> None:
    run = probed(tiny)
    probe, module = run.probes[WeightDrift], run.module
    trained = [module.trained_by(task) for task in module.data.tasks]
    kept = sum(tensor.numel() for tensor in probe.tensors.values())
    assert copied_elements([probe], module.anatomy.numel, trained) == kept > 0
    assert copied_elements([probe], module.anatomy.numel, trained, on_disk=True) == 0


@pytest.mark.parametrize(
    ("beside", "unseen"),
    [
        (
            LoRA(rank=2, at_end="keep"),
            "llm.attn.k, llm.attn.o, llm.attn.q, llm.attn.v, llm.mlp.gate, llm.mlp.up",
        ),
        (MoE(), "llm.mlp.gate, llm.mlp.up"),
        (LoRA(rank=2), ""),
    ],
)
def test_what_stays_beside_the_weights_is_said_not_to_be_seen(
    beside: Mitigation, unseen: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(lmmcl.sequence.task_sequence, "rank_zero_info", said.append)
    probed_fit(tiny, tmp_path, [beside, WeightDrift(matrices=0)])
    (log,) = read_probes(tmp_path)
    groups = [group for group, moved in log.at_stages[-1].values.items() if not moved]
    text = f"Adapters or experts beside {unseen} are not seen: there it reads 0."
    assert ", ".join(groups) == unseen
    assert (text in log.about, any(text in line for line in said)) == (bool(unseen), bool(unseen))
    assert unseen or log.about.endswith("base model.")
