"""O-LoRA: its penalty is 0 where rows are orthogonal, and without it it is LoRA that keeps its adapters."""

from pathlib import Path

import pytest
import torch

from lmmcl.adapters.low_rank import names_of
from lmmcl.callbacks import LoRA, OLoRA
from lmmcl.callbacks.o_lora import overlap
from tests.callbacks.laws import STAGES, law_fit, law_weights

OPTIONS = {"rank": 4, "alpha": 8.0, "dropout": 0.1}


def test_orthogonal_rows_give_zero_and_others_the_sum_of_absolute_products() -> None:
    basis = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(0)).double()).Q
    assert float(overlap(basis[:3], basis[3:])) == pytest.approx(0, abs=1e-12)
    assert float(overlap(-2 * basis[:3], basis[:3])) == pytest.approx(6)
    one, other = basis[:3] + 1, basis[3:] - 2
    slow = sum(abs(float(a @ b)) for a in one for b in other)
    assert float(overlap(one, other)) == pytest.approx(slow)
    parts = [float(overlap(one[:2], other)), float(overlap(one[2:], other)), float(overlap(one[:0], other))]
    assert sum(parts) == pytest.approx(slow)  # as shards of rows add up


def test_without_its_penalty_it_is_lora_that_keeps_bit_for_bit(tiny: Path, tmp_path: Path) -> None:
    law_fit(tiny, tmp_path / "zero", [OLoRA(weight=0.0, **OPTIONS)])  # type: ignore[arg-type]  # plain values
    law_fit(tiny, tmp_path / "keep", [LoRA(at_end="keep", **OPTIONS)])  # type: ignore[arg-type]
    for stage in STAGES:
        zero, keep = (law_weights(tmp_path / run, plain=False)[stage] for run in ("zero", "keep"))
        assert zero.keys() == keep.keys()
        assert all(torch.equal(zero[name], keep[name]) for name in zero)


def test_the_logged_penalty_counts_all_past_adapters_of_a_linear_and_training_lowers_it(
    tiny: Path, tmp_path: Path
) -> None:
    method = OLoRA(weight=0.5, rank=4, alpha=8.0, dropout=0.0)
    module = law_fit(tiny, tmp_path, [method])
    lines = [line.split(",") for line in (tmp_path / "logs" / "metrics.csv").read_text().splitlines()]
    column = lines[0].index("OLoRA")
    assert not any(
        line[column] for line in lines[1:7]
    )  # nothing before the first, nothing shared with the second
    first, *_, last = [float(line[column]) for line in lines[7:]]
    assert last < 0.8 * first
    held = law_weights(tmp_path, plain=False)
    expected = 0.0
    fresh = law_fit(tiny, tmp_path / "killed", [OLoRA(weight=0.5, rank=4, alpha=8.0, dropout=0.0)], kill_at=6)
    for name, parameter in fresh.parameters_by_name().items():
        if ".lora_A.task_3." not in name:
            continue
        for task in (1, 2):
            past = held["02-second"].get(name.replace("task_3", f"task_{task}"))
            expected += 0.0 if past is None else 0.5 * float((parameter.detach() @ past.T).abs().sum())
    assert first == pytest.approx(expected, rel=1e-4)
    assert names_of("x.weight", "task_3")[0] in "x.lora_A.task_3.weight"
    assert module.trained
