"""Keys and values that are written in place are, bit for bit, those that transformers concatenates."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText, Qwen2Config
from transformers.cache_utils import (
    DynamicCache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    EncoderDecoderCache,
)

from lmmcl.evaluation.reserved_cache import Reserved, ReservedLayer, reserving


def states(lengths: list[int], batch: int = 3, dtype: torch.dtype = torch.float32) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(0)
    for length in lengths:
        # As attention hands them over: heads and positions were swapped.
        yield torch.randn((batch, length, 2, 4), generator=generator).to(dtype).transpose(1, 2)


@pytest.mark.parametrize("lengths", [[5, *[1] * 80], [300, *[1] * 80], [1, 70, 3, 200], [0, 4, 1]])
def test_what_was_appended_is_the_concatenation(lengths: list[int]) -> None:
    reserved, held, expected = Reserved(79), torch.tensor([]), torch.tensor([])
    for new in states(lengths):
        held, expected = reserved.append(held, new), torch.cat([expected, new], dim=-2)
        assert torch.equal(held, expected)


def test_nothing_is_moved_while_there_is_room_and_no_more_is_reserved_than_is_allowed() -> None:
    reserved, held = Reserved(40), torch.tensor([])
    places = set()
    for new in states([10, *[1] * 40]):
        held = reserved.append(held, new)
        places.add(held.data_ptr())
    assert len(places) == 1
    assert held.untyped_storage().nbytes() == 3 * 2 * 50 * 4 * held.itemsize


def test_a_long_answer_is_made_room_for_in_parts() -> None:
    reserved, held = Reserved(1_000), torch.tensor([])
    places: list[int] = []
    largest = 0.0
    for new in states([10, *[1] * 1_000]):
        held = reserved.append(held, new)
        if held.data_ptr() not in places[-1:]:
            places.append(held.data_ptr())
        positions = held.untyped_storage().nbytes() / (3 * 2 * 4 * held.itemsize)
        largest = max(largest, positions / (held.shape[-2] + 256))
    assert len(places) < 12
    assert largest <= 1, "the reserve is at most a quarter"


def test_another_precision_is_promoted_as_a_concatenation_promotes_it() -> None:
    reserved = Reserved(10)
    (first,), (second,) = states([3], dtype=torch.bfloat16), states([1])
    held = reserved.append(reserved.append(torch.tensor([], dtype=torch.bfloat16), first), second)
    assert torch.equal(held, torch.cat([first, second], dim=-2)) and held.dtype == torch.float32


CHANGES: dict[str, Callable[[DynamicLayer], None]] = {
    "crop": lambda layer: layer.crop(-3),
    "reset": lambda layer: layer.reset(),
    "other order": lambda layer: layer.reorder_cache(torch.LongTensor([2, 0, 1])),
    "some rows": lambda layer: layer.batch_select_indices(torch.tensor([1])),
    "repeated rows": lambda layer: layer.batch_repeat_interleave(2),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_layer_goes_on_as_its_model_does_when_it_was_changed_between(change: str) -> None:
    ours, theirs = ReservedLayer(50), DynamicLayer()
    for step, new in enumerate(states([6, *[1] * 8])):
        if step == 4:
            CHANGES[change](ours)
            CHANGES[change](theirs)
        if theirs.keys is not None and theirs.keys.numel():
            new = new.repeat(2, 1, 1, 1)[: len(theirs.keys)]
        for found, expected in zip(ours.update(new, -new), theirs.update(new, -new), strict=True):
            assert torch.equal(found, expected)
        assert ours.get_seq_length() == theirs.get_seq_length()
        assert ours.get_mask_sizes(1) == theirs.get_mask_sizes(1)
        assert ours.get_max_length() == theirs.get_max_length()


def test_what_was_given_before_a_crop_is_not_written_over() -> None:
    layer = ReservedLayer(50)
    first, second = states([6, 3])
    before, _ = layer.update(first, first)
    kept = before.clone()
    layer.crop(-3)
    layer.update(second, second)
    assert torch.equal(before, kept)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_generation_writes_in_place_and_gives_the_same_bits(attention: str, tiny: Path) -> None:
    model: Any = AutoModelForImageTextToText.from_pretrained(
        tiny, dtype=torch.float32, attn_implementation=attention
    )
    ids = torch.randint(5, 60, (3, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    asked: dict[str, Any] = {
        "input_ids": ids,
        "attention_mask": mask,
        "do_sample": False,
        "max_new_tokens": 12,
        "min_new_tokens": 12,
        "output_logits": True,
        "return_dict_in_generate": True,
    }
    theirs = model.generate(**asked)
    with reserving(model, 12):
        ours = model.generate(**asked)
    after = model.generate(**asked)
    assert {type(layer) for layer in ours.past_key_values.layers} == {ReservedLayer}
    for other in (theirs, after):
        assert {type(layer) for layer in other.past_key_values.layers} == {DynamicLayer}
        assert torch.equal(torch.stack(ours.logits), torch.stack(other.logits))
    for mine, plain in zip(ours.past_key_values.layers, theirs.past_key_values.layers, strict=True):
        assert torch.equal(mine.keys, plain.keys) and torch.equal(mine.values, plain.values)
        assert mine.keys.untyped_storage().nbytes() == plain.keys.untyped_storage().nbytes()


def prepared(cache: Any) -> Any:
    """The cache that ``generate`` would use where a model makes this one."""
    inputs: dict[str, Any] = {}
    model = SimpleNamespace(
        _prepare_cache_for_generation=lambda config, inputs, *others: inputs.update(past_key_values=cache)
    )
    with reserving(model, 8):
        model._prepare_cache_for_generation(None, inputs, None, 1, 20)
    return inputs["past_key_values"]


def test_only_plain_layers_are_replaced() -> None:
    kinds = ["full_attention", "sliding_attention", "full_attention"]
    config = Qwen2Config(
        num_hidden_layers=3, layer_types=kinds, sliding_window=4, use_sliding_window=True, max_window_layers=0
    )
    found = prepared(DynamicCache(config=config))
    assert [type(layer) for layer in found.layers] == [
        ReservedLayer,
        DynamicSlidingWindowLayer,
        ReservedLayer,
    ]


def test_a_cache_of_another_kind_stays_as_the_model_makes_it() -> None:
    class Own(DynamicCache):
        """A model's own."""

    own = Own(config=Qwen2Config(num_hidden_layers=1))
    both = EncoderDecoderCache(DynamicCache(config=Qwen2Config(num_hidden_layers=1)), DynamicCache())
    assert {type(layer) for layer in prepared(own).layers} == {DynamicLayer}
    assert {type(layer) for layer in prepared(both).self_attention_cache.layers} == {DynamicLayer}
    assert prepared(None) is None


def test_a_model_that_fails_prepares_its_cache_as_before() -> None:
    class Model:
        def _prepare_cache_for_generation(self) -> str:
            return "own"

    model = Model()
    with pytest.raises(ValueError, match="broken"), reserving(model, 8):
        raise ValueError("broken")
    assert "_prepare_cache_for_generation" not in vars(model)


def test_a_model_of_another_kind_is_left_alone() -> None:
    model = SimpleNamespace()
    with reserving(model, 8):
        assert not vars(model)
