"""Tensors in a few large pieces of pinned memory."""

import pytest
import torch

from lmmcl.optim import pinned_memory
from lmmcl.optim.pinned_memory import PinnedMemory


def test_tensors_are_zeros_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pinned_memory, "_PIECE", 64)
    shapes = [torch.Size(shape) for shape in ((5, 9), (3,), (20, 5), (), (4, 4), (7,))]
    memory = PinnedMemory(sum(shape.numel() for shape in shapes))
    tensors = [memory.zeros(shape) for shape in shapes]
    assert [tensor.shape for tensor in tensors] == shapes
    assert not any(tensor.any() for tensor in tensors)
    for number, tensor in enumerate(tensors, 1):
        tensor.fill_(number)
    assert [set(tensor.flatten().tolist()) for tensor in tensors] == [{float(n)} for n in range(1, 7)]


def test_no_more_than_asked_for_is_taken_where_little_is() -> None:
    memory = PinnedMemory(30)
    first, second = memory.zeros(torch.Size((2, 10))), memory.zeros(torch.Size((10,)))
    assert first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()
    assert first.untyped_storage().nbytes() == 4 * 30


def test_what_is_left_of_a_piece_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pinned_memory, "_PIECE", 64)
    memory = PinnedMemory(200)
    pieces = [memory.zeros(torch.Size((count,))).untyped_storage().data_ptr() for count in (40, 50, 20, 14)]
    assert pieces[0] == pieces[2] and pieces[1] == pieces[3] != pieces[0]
