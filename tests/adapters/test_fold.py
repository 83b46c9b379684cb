"""Adapters as plain weights: the sum is in fp32 and rounded once, and what cannot be plain says so."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from lmmcl.adapters.fold import Fold, PlainReader, as_lineage, folded, folds_of
from lmmcl.errors import UserError
from lmmcl.run.run_folder import RunFolder

SHAPES = {
    "x.weight": (6, 5),
    "x.A.1": (2, 5),
    "x.B.1": (6, 2),
    "x.A.2": (2, 5),
    "x.B.2": (6, 2),
    "y.weight": (3, 3),
}
FOLDS = [Fold("x.weight", f"x.B.{k}", f"x.A.{k}", 0.5) for k in (1, 2)]


def drawn() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def reference(tensors: dict[str, Tensor], base: Tensor) -> Tensor:
    """W + Σ s B A, an element at a time."""
    total = base.double().clone()
    for k in (1, 2):
        for i in range(6):
            for j in range(5):
                total[i, j] += 0.5 * float((tensors[f"x.B.{k}"][i] * tensors[f"x.A.{k}"][:, j]).sum())
    return total


def test_a_fold_is_the_base_plus_scaled_products_and_leaves_the_base_alone() -> None:
    tensors = drawn()
    before = tensors["x.weight"].clone()
    found = folded(tensors["x.weight"], FOLDS, tensors.__getitem__)
    torch.testing.assert_close(found.double(), reference(tensors, before), rtol=1e-6, atol=1e-6)
    assert torch.equal(tensors["x.weight"], before)
    assert torch.equal(folded(before, [], tensors.__getitem__), before)


def test_a_base_in_bf16_is_summed_in_fp32_even_under_autocast() -> None:
    tensors = drawn()
    base = tensors["x.weight"].bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = folded(base, FOLDS, tensors.__getitem__)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), reference(tensors, base), rtol=1e-6, atol=1e-6)


def test_a_stage_is_read_as_plain_weights(tmp_path: Path) -> None:
    tensors = drawn()
    held = {name: tensor for name, tensor in tensors.items() if name != "x.weight"}
    added = [name for name in held if name.startswith("x.")]
    folder = RunFolder(tmp_path)
    folder.write_stage("01-a", held, {"checksums": {}, **as_lineage(FOLDS, [*added, "x.A.3"], None)})
    base = {"x.weight": tensors["x.weight"], "z.weight": torch.ones(2)}
    plain = PlainReader(folder.stage_reader("01-a"), folder.lineage("01-a"), base)
    assert plain.keys() == {"x.weight", "y.weight"}
    assert plain.shape("x.weight") == (6, 5) and plain.shape("y.weight") == (3, 3)
    assert torch.equal(plain.read("y.weight"), tensors["y.weight"])
    assert torch.equal(plain.read("x.weight"), folded(tensors["x.weight"], FOLDS, tensors.__getitem__))


def test_the_lineage_of_a_stage_without_adapters_says_nothing_of_them() -> None:
    assert as_lineage([], [], None) == {}
    assert folds_of({}) == {}


def test_what_no_plain_weights_can_do_is_refused_with_its_reason() -> None:
    with pytest.raises(UserError, match="cannot be written as plain weights: a router chooses among experts"):
        folds_of(as_lineage([], ["router"], "a router chooses among experts."))
