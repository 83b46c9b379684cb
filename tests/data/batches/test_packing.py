"""Packing: every token in its place, labels that never predict across, sequences no longer than the longest sample."""

from dataclasses import replace
from itertools import chain

import pytest
import torch
from torch import Tensor

from lmmcl.data.batches import packing
from lmmcl.data.batches.batch import IGNORED, Batch
from lmmcl.data.batches.packing import arrange, best_fit, in_turn, pack

PAD = 99
LENGTHS = [5, 2, 3, 1, 4]


def padded() -> Batch:
    """Sample s has the tokens 10 s, 10 s + 1, ...; its last two are learned, and of sample 3 its only one."""
    longest = max(LENGTHS)
    ids = torch.full((len(LENGTHS), longest), PAD)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
    for sample, length in enumerate(LENGTHS):
        ids[sample, :length] = 10 * sample + torch.arange(length)
        mask[sample, :length] = 1
        learned = slice(max(0, length - 2), length)
        labels[sample, learned] = ids[sample, learned]
    types = mask * 7
    pixels = torch.randn(2, 3, 4, 4)
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types, "pixel_values": pixels}
    return Batch(inputs, labels, [f"row-{i}" for i in range(len(LENGTHS))], 12, extras={"joined": [0] * 5})


@pytest.mark.parametrize(
    ("one", "segments"),
    [
        (True, [[0, 0, 0, 0, 0, 1, 1, 2, 2, 2, 3, 4, 4, 4, 4]]),
        (False, [[0, 0, 0, 0, 0], [1, 1, 2, 2, 2], [3, 4, 4, 4, 4]]),
    ],
)
def test_samples_stand_one_after_the_other(one: bool, segments: list[list[int]]) -> None:
    batch = padded()
    packed = pack(batch, PAD, one)
    assert packed.segments is not None and packed.segments.tolist() == segments
    assert len(packed) == len(LENGTHS) and packed.ids == batch.ids and packed.extras == batch.extras
    assert packed.window_tokens == batch.window_tokens
    assert packed.inputs["pixel_values"] is batch.inputs["pixel_values"]
    assert "attention_mask" not in packed.inputs
    tokens = [10 * sample + place for sample, length in enumerate(LENGTHS) for place in range(length)]
    assert packed.inputs["input_ids"].flatten().tolist() == tokens
    places = [place for length in LENGTHS for place in range(length)]
    assert packed.inputs["position_ids"].flatten().tolist() == places
    assert packed.inputs["token_type_ids"].unique().tolist() == [7]


def test_pixels_that_have_the_shape_of_the_tokens_stay_as_they_are() -> None:
    batch = padded()
    pixels = {
        "pixel_values": torch.randn(5, 5, 3),
        "pixel_position_ids": torch.ones(5, 5, 2, dtype=torch.long),
    }
    packed = pack(replace(batch, inputs={**batch.inputs, **pixels}), PAD)
    assert all(packed.inputs[key] is value for key, value in pixels.items())


def test_padding_at_the_end_of_a_sequence_is_a_segment_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_MULTIPLES", (1,))
    batch = padded()
    few = Batch(
        {k: v[1:4] for k, v in batch.inputs.items()},
        batch.labels[1:4] if batch.labels is not None else None,
        "abc",
    )
    packed = pack(few, PAD)
    assert packed.segments is not None
    assert packed.segments.tolist() == [[0, 0, -1], [1, 1, 1], [2, -1, -1]]
    assert packed.inputs["position_ids"].tolist() == [[0, 1, 0], [0, 1, 2], [0, 0, 1]]
    assert packed.inputs["input_ids"].tolist() == [[10, 11, PAD], [20, 21, 22], [30, PAD, PAD]]
    assert packed.mask().tolist() == [[True, True, False], [True] * 3, [True, False, False]]


def test_the_first_token_of_a_sample_is_predicted_by_nobody() -> None:
    packed = pack(padded(), PAD, one=True)
    assert packed.labels is not None
    learned = packed.labels[packed.labels != IGNORED].tolist()
    assert learned == [3, 4, 11, 21, 22, 42, 43], "10 and 30 begin their samples"


def counts(batch: Batch) -> tuple[list[int], list[int]]:
    assert batch.labels is not None
    return batch.per_sample(batch.mask()).tolist(), batch.per_sample(batch.labels == 43).tolist()


def test_what_is_counted_by_sample_is_the_same_packed_and_padded() -> None:
    assert counts(padded()) == counts(pack(padded(), PAD)) == (LENGTHS, [0, 0, 0, 0, 1])


def test_a_packed_batch_moves_with_its_segments() -> None:
    moved = pack(padded(), PAD).to("meta")
    assert moved.segments is not None and moved.segments.is_meta


def test_sequences_are_filled_in_turn() -> None:
    assert in_turn([5, 2, 3, 1, 4], 5) == [[0], [1, 2], [3, 4]]
    assert in_turn([1, 5, 1], 5) == [[0], [1], [2]]


def lengths(seed: int) -> list[int]:
    drawn: Tensor = torch.randint(1, 100, (60,), generator=torch.Generator().manual_seed(seed))
    return drawn.tolist()


@pytest.mark.parametrize("seed", range(5))
def test_best_fit_takes_every_sample_once_and_wastes_little(seed: int) -> None:
    found = best_fit(lengths(seed), 100)
    assert sorted(chain(*found)) == list(range(60))
    sizes = [sum(lengths(seed)[sample] for sample in sequence) for sequence in found]
    assert max(sizes) <= 100
    fewest = -(-sum(sizes) // 100)
    assert len(found) <= 11 / 9 * fewest + 1


def test_best_fit_leaves_out_what_finds_no_room_and_gives_a_giant_its_own() -> None:
    assert best_fit([6, 5, 5, 4], 10, most=1) == [[0, 3]]
    assert best_fit([12, 3], 10) == [[0], [1]]


@pytest.mark.parametrize("seed", range(5))
def test_samples_in_the_order_of_their_arrangement_leave_little_room(seed: int) -> None:
    sizes = lengths(seed)
    order = arrange(sizes)
    assert sorted(order) == list(range(60))
    waste, of_padded = (
        1 - sum(sizes) / laid for laid in (positions([sizes[s] for s in order]), 60 * max(sizes))
    )
    assert waste < 0.1 < 0.4 < of_padded


def positions(sizes: list[int]) -> int:
    """Of samples laid in this order."""
    longest = max(sizes)
    ids = torch.zeros(len(sizes), longest, dtype=torch.long)
    mask = (torch.arange(longest) < torch.tensor(sizes)[:, None]).long()
    batch = Batch(
        {"input_ids": ids, "attention_mask": mask}, torch.full_like(ids, IGNORED), ["row"] * len(sizes)
    )
    return pack(batch, PAD).mask().numel()


def test_sequences_are_longer_than_the_longest_sample_where_that_saves_more_than_attention_costs() -> None:
    assert positions([60] * 5 + [100]) == 400, "two sequences of 200, not six of 100"
    assert positions([600] * 5 + [1000]) == 6000, "attention over 2000 positions costs more than the padding"


def test_what_finds_no_room_in_the_limit_is_left_out() -> None:
    taken = arrange([50, 40, 30, 20, 10], limit=100)
    assert sum([50, 40, 30, 20, 10][sample] for sample in taken) == 100
    assert arrange([500, 20], limit=100) == [0]
