"""What one look between two magnitudes gives is what counting all values gives, and where it cannot, it says so."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lmmcl.merge import bracket, open_model
from lmmcl.merge import pieces as pieces_module
from lmmcl.merge.bracket import seen_once
from lmmcl.merge.pieces import FilePieces
from lmmcl.merge.tensor_file import TensorFileWriter
from lmmcl.merge.tensor_pieces import TensorPieces
from lmmcl.merge.threshold import Largest, Part, largest
from tests.merge.two_models import SINGLE

NUMEL = 40_009


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors of some thousand values are sampled, and cut."""
    monkeypatch.setattr(pieces_module, "LENGTH", 7001)
    monkeypatch.setattr(pieces_module, "_RUNS", (64, 64))
    monkeypatch.setattr(pieces_module, "_RUN", 128)


def in_files(folder: Path, *tensors: Tensor) -> FilePieces:
    models = []
    for number, tensor in enumerate(tensors):
        place = folder / str(number)
        place.mkdir()
        with TensorFileWriter(place / SINGLE, {"w": (tensor.dtype, tuple(tensor.shape))}) as writer:
            writer.put(tensor)
        models.append(open_model(place))
    return FilePieces("w", models[0], models[1:])


def parts(pieces: FilePieces, which: int) -> Iterator[Part]:
    for piece in pieces:
        yield piece.vectors[which], partial(pieces.positions, piece)


def held(pieces: FilePieces, which: int, of: Largest) -> Tensor:
    return torch.cat([of.holds(*part) for part in parts(pieces, which)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_what_counting_all_values_gives(tmp_path: Path, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(NUMEL, generator=generator).to(dtype)
    smooth = (base + 0.1 * torch.randn(NUMEL, generator=generator)).to(dtype)
    equal = (base.sign() * 2 + base).to(dtype)  # few magnitudes
    pieces = in_files(tmp_path, base, smooth, equal)
    ranks = [1, 400, NUMEL // 5, NUMEL // 2, NUMEL - 1]
    found = seen_once(pieces, ranks)
    assert found is not None and [list(of) for of in found] == [ranks, ranks]
    for which, of in enumerate(found):
        for rank in ranks:
            mine, counted = held(pieces, which, of[rank]), largest(partial(parts, pieces, which), rank)
            assert torch.equal(mine, held(pieces, which, counted))
            assert int(mine.sum()) == rank or of[rank].magnitude == 0  # zeros do not count


def test_a_rank_that_the_sample_misjudges_is_left_out(tmp_path: Path) -> None:
    base, tuned = torch.zeros(NUMEL), torch.full((NUMEL,), 1e-3)
    step = NUMEL // 64
    unseen = torch.arange(NUMEL) % step >= 128  # by the sample, which sees the first 128 of each run
    tuned[unseen] = torch.linspace(1, 2, int(unseen.sum()))
    pieces = in_files(tmp_path, base, tuned)
    assert pieces.sample() is not None and float(pieces.sample().base.max()) == 0  # type: ignore[union-attr]
    assert seen_once(pieces, [NUMEL // 5]) == [{}]


def test_too_many_values_between_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = in_files(tmp_path, torch.zeros(NUMEL), torch.ones(NUMEL))
    assert seen_once(pieces, [9])[0][9].magnitude == 1  # type: ignore[index]
    monkeypatch.setattr(bracket, "_MOST", NUMEL - 1)
    assert seen_once(pieces, [9]) == [{}]


def test_a_small_tensor_and_one_in_memory_are_counted(tmp_path: Path) -> None:
    assert seen_once(in_files(tmp_path, torch.zeros(50), torch.ones(50)), [9]) is None
    assert seen_once(TensorPieces("w", torch.zeros(NUMEL), [torch.ones(NUMEL)]), [9]) is None
