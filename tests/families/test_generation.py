"""Batched greedy answers are those of batch size 1, whatever stands beside a row."""

import torch
from transformers.cache_utils import DynamicLayer

from lmmcl.evaluation.generate import generate
from lmmcl.evaluation.reserved_cache import ReservedLayer, reserving
from lmmcl.quirks import learns_suffixes
from tests.families.conftest import Kit

LENGTH = 16


def test_answers_do_not_depend_on_the_batch(kit: Kit) -> None:
    rows = [make(str(number), number) for number, make in enumerate(kit.shapes * 3)]

    def answers(size: int) -> list[str]:
        found: list[str] = []
        for start in range(0, len(rows), size):
            prompts = kit.collator.prompts(rows[start : start + size])
            found += generate(kit.model, kit.processor, prompts, LENGTH)
        return found

    alone = answers(1)
    assert len(set(alone)) > 2
    assert answers(len(rows)) == alone
    assert answers(5) == alone


def test_an_answer_continues_as_a_forward_over_all_of_it_says(kit: Kit) -> None:
    """The cache, positions and padding of generation against the plain forward of training."""
    batch = kit.collator.prompts([kit.shapes[0]("row"), kit.shapes[1]("longer")])
    inputs = batch.inputs
    width = inputs["input_ids"].shape[1]
    with torch.no_grad():
        output = kit.model.generate(**inputs, max_new_tokens=6, do_sample=False)
    for index, make in enumerate(kit.shapes[:2]):
        single = kit.collator.prompts([make("row")]).inputs
        new = output[index : index + 1, width:]
        ids = torch.cat([single["input_ids"], new], 1)
        longer = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        for key, value in single.items():
            if key.endswith("token_type_ids"):
                kind = int(learns_suffixes(kit.processor))
                longer[key] = torch.cat([value, torch.full_like(new, kind)], 1)
            elif key not in longer:
                longer[key] = value
        with torch.no_grad():
            logits = kit.model(**longer).logits[0, -new.shape[1] - 1 : -1]
        assert logits.argmax(-1).tolist() == new[0].tolist()


def test_a_reserved_cache_gives_the_same_bits(kit: Kit) -> None:
    batch = kit.collator.prompts([kit.shapes[0]("row"), kit.shapes[1]("longer")])

    def said() -> tuple[torch.Tensor, list[type]]:
        output = kit.model.generate(
            **batch.inputs,
            max_new_tokens=6,
            min_new_tokens=6,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
        return torch.stack(output.logits), [type(layer) for layer in output.past_key_values.layers]

    plain, layers = said()
    with reserving(kit.model, 6):
        ours, reserved = said()
    assert torch.equal(ours, plain)
    assert reserved == [ReservedLayer if layer is DynamicLayer else layer for layer in layers]
