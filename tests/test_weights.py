"""Mixing, swapping and checksums against slow references."""

import contextlib

import pytest
import torch

from lmmcl.weights import checksums, copy_, fingerprint, mix_, snapshot, swapped

MASK = 2**64 - 1


def tensors(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {"a": torch.randn(5, 7, generator=generator), "b": torch.randn(3, generator=generator).bfloat16()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_alpha_zero_and_one_give_either_side_byte_for_byte() -> None:
    mine, other = tensors(0), tensors(1)
    kept = snapshot(mine)
    mix_(mine, other, 0.0)
    assert equal(mine, kept)
    mix_(mine, other, 1.0)
    assert equal(mine, other)


def test_a_mix_is_summed_in_fp32() -> None:
    mine, other = tensors(0), tensors(1)
    expected = {n: (0.3 * other[n].double() + 0.7 * mine[n].double()) for n in mine}
    mix_(mine, other, 0.3)
    torch.testing.assert_close(mine["a"].double(), expected["a"], rtol=1e-6, atol=1e-7)
    assert torch.equal(mine["b"], expected["b"].float().bfloat16())


def test_swapped_exchanges_values_and_gives_them_back_even_after_an_error() -> None:
    mine, other = tensors(0), tensors(1)
    before, after = snapshot(mine), snapshot(other)
    addresses = [t.data_ptr() for t in mine.values()]
    with contextlib.suppress(ZeroDivisionError), swapped(mine, other):
        assert equal(mine, after) and equal(other, before)
        raise ZeroDivisionError
    assert equal(mine, before) and equal(other, after)
    assert [t.data_ptr() for t in mine.values()] == addresses


def test_names_that_differ_are_an_error_not_a_silent_partial_copy() -> None:
    with pytest.raises(KeyError, match="for example b"):
        copy_(tensors(0), {"a": tensors(1)["a"]})


def slow_checksum(tensor: torch.Tensor) -> str:
    """The definition in Python's own integers."""
    kinds = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    total = 0
    for index, word in enumerate(tensor.flatten().view(kinds[tensor.element_size()]).tolist()):
        mixed = (index * -7046029254386353131 + 1442695040888963407) & MASK
        mixed = ((mixed ^ (mixed >> 32)) * -4658895280553007687) & MASK
        total += word * ((mixed ^ (mixed >> 29)) | 1)
    return f"{total & MASK:016x}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.uint8])
def test_the_checksum_follows_its_definition(dtype: torch.dtype) -> None:
    tensor = (torch.randn(11, 3, generator=torch.Generator().manual_seed(0)) * 50).abs().to(dtype)
    assert checksums({"x": tensor}) == {"x": slow_checksum(tensor)}


def test_the_checksum_sees_one_bit_a_swap_and_a_balanced_change() -> None:
    tensor = torch.arange(12, dtype=torch.float32)
    flipped = tensor.clone()
    flipped.view(torch.int32)[5] ^= 1
    exchanged = tensor[torch.tensor([1, 0, *range(2, 12)])]
    words = tensor.clone().view(torch.int32)
    words[3] += 1
    words[4] -= 2
    words[5] += 1
    changed = [checksums({"x": other})["x"] for other in (flipped, exchanged, words.view(torch.float32))]
    assert checksums({"x": tensor})["x"] not in changed
    assert len(set(changed)) == 3


def test_a_fingerprint_hears_names_and_values_but_not_order() -> None:
    assert fingerprint({"a": "1", "b": "2"}) == fingerprint({"b": "2", "a": "1"})
    assert fingerprint({"a": "1", "b": "2"}) != fingerprint({"a": "2", "b": "1"})
