"""Mixtures: exact at both ends, fp32 in between, and named by the weights that they stand for."""

import pytest
import torch

from lmmcl.audit.candidate import Candidate, fill, mixed


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_both_ends_are_exact_and_shared_values_stay_as_they_are(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(999, generator=generator).to(dtype)
    tuned = (base.float() + 0.1 * torch.randn(999, generator=generator)).to(dtype)
    tuned[:100] = base[:100]
    assert torch.equal(mixed(base, tuned, 0.0), tuned)
    assert torch.equal(mixed(base, tuned, 1.0), base)
    for alpha in (0.1, 0.25, 1 / 3, 0.9):
        found = mixed(base, tuned, alpha)
        assert found.dtype == dtype
        assert torch.equal(found[:100], base[:100])
        exact = base.double() + (1 - alpha) * (tuned.double() - base.double())
        torch.testing.assert_close(found, exact.to(dtype))


def test_sums_are_made_in_fp32() -> None:
    base, tuned = torch.tensor([1.0, 256.0]).bfloat16(), torch.tensor([1.0078125, 258.0]).bfloat16()
    # In bf16 256 + 0.75 · 2 would round its way to another neighbour only by luck: the reference is in double.
    exact = base.double() + 0.75 * (tuned.double() - base.double())
    assert torch.equal(mixed(base, tuned, 0.25), exact.to(torch.bfloat16))


def test_counters_are_not_mixed() -> None:
    base, tuned = torch.tensor([1, 2]), torch.tensor([5, 6])
    assert torch.equal(mixed(base, tuned, 0.5), tuned)
    assert torch.equal(mixed(base, tuned, 1.0), base)


def test_fill_puts_back_the_named_groups_and_touches_nothing_else() -> None:
    base = {"a": torch.zeros(3), "b": torch.zeros(3)}
    tuned = {"a": torch.ones(3), "b": torch.full((3,), 2.0)}
    target = {"a": torch.full((3,), 9.0), "b": torch.full((3,), 9.0), "c": torch.full((3,), 9.0)}
    fill(target, base, tuned, {"a": "llm.attn.q", "b": "llm.mlp.up"}, Candidate.without(["llm.mlp.up"]))
    assert [float(value[0]) for value in target.values()] == [1.0, 0.0, 9.0]


def test_a_key_names_weights_and_not_the_way_to_them() -> None:
    moved = ["x", "y"]

    def key(candidate: Candidate) -> str:
        return candidate.weights_key("base", "tuned", moved)

    assert key(Candidate.everywhere(moved, 0.0)) == "tuned"
    assert key(Candidate.everywhere(moved, 1.0)) == key(Candidate.without(["y", "x"])) == "base"
    assert key(Candidate.without(["x", "elsewhere"])) == key(Candidate.without(["x"]))
    keys = [
        key(Candidate.without(["x"])),
        key(Candidate.without(["y"])),
        key(Candidate.everywhere(moved, 0.5)),
    ]
    assert len({*keys, "base", "tuned"}) == 5
    assert Candidate.without(["x"]).weights_key("other", "tuned", moved) != keys[0]


def test_names_of_folders_are_short_and_differ() -> None:
    groups = [f"llm.cross_attn.group-{i}" for i in range(20)]
    one, other = Candidate.without(groups), Candidate.without(groups[1:])
    assert len(one.folder) < 40
    assert one.folder != other.folder
    assert Candidate.everywhere(groups, 0.25).title == "α 0.25"
