"""Micro-batches of a number of tokens: the limit holds whatever is counted, and no sample is lost."""

from itertools import chain

import pytest
import torch

from lmmcl.data.batches.collate import Collator
from lmmcl.data.batches.micro_batches import Layout, MicroBatches, by_tokens
from lmmcl.data.batches.packing import in_turn
from lmmcl.data.batches.sample_length import SampleLengths
from tests.data.processors import CHATML_TOKENS, idefics3, llava, llava_next, row, say, simple

ROWS = [
    simple(str(i), "where " * (3 * i % 31), "red " * (i % 3) + "end")
    if i % 3
    else row(str(i), say("user", "what " * i), say("assistant", "red"))
    for i in range(23)
]
PADDED, PACKED, ONE = Layout(160), Layout(160, True), Layout(160, True, True)


def collator() -> Collator:
    return Collator(llava(special=CHATML_TOKENS), None, always_image=False)


@pytest.mark.parametrize("layout", [PADDED, PACKED, ONE])
@pytest.mark.parametrize("seed", range(4))
def test_a_micro_batch_holds_its_tokens_and_every_sample_stands_in_one(layout: Layout, seed: int) -> None:
    lengths = torch.randint(1, 140, (40,), generator=torch.Generator().manual_seed(seed)).tolist()
    dealt = by_tokens(lengths, layout)
    assert sorted(chain(*dealt)) == list(range(40))
    for samples in dealt:
        sizes = [lengths[sample] for sample in samples]
        laid = [in_turn(sizes, size) for size in range(max(sizes), 161)]
        fewest = min(len(each) * max(sum(sizes[s] for s in one) for one in each) for each in laid)
        assert (fewest if layout.packing else len(sizes) * max(sizes)) <= 160
    assert len(dealt) <= (1.2 if layout.packing else 1.6) * -(-sum(lengths) // 160)


def test_a_sample_that_is_longer_than_the_limit_stands_alone() -> None:
    assert by_tokens([10, 500, 20], PADDED) == [[1], [2, 0]]
    assert by_tokens([10, 500, 20], ONE) == [[1], [2, 0]]


@pytest.mark.parametrize("layout", [PADDED, PACKED, ONE])
@pytest.mark.parametrize("counted", [None, 1, 150])
def test_the_limit_holds_also_where_lengths_are_counted_wrong(
    layout: Layout, counted: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if counted is not None:
        monkeypatch.setattr(SampleLengths, "of", lambda self, rows: [counted] * len(rows))
    batches, beyond = MicroBatches(collator(), layout).within_limit(ROWS)
    assert sorted(name for batch in batches for name in batch.ids) == sorted(one.id for one in ROWS)
    assert not beyond
    assert max(batch.mask().numel() for batch in batches) <= 160


def test_a_sample_beyond_the_limit_is_told() -> None:
    batches, beyond = MicroBatches(collator(), Layout(20)).within_limit(ROWS[:4])
    longer = [batch.ids[0] for batch in batches if batch.mask().numel() > 20]
    assert longer and sorted(beyond) == sorted(longer)
    assert all(len(batch) == 1 for batch in batches if batch.mask().numel() > 20)


@pytest.mark.parametrize("layout", [Layout(None, True), Layout(None, True, True)])
def test_a_packed_micro_batch_of_a_number_of_samples_has_all_of_them_and_less_padding(layout: Layout) -> None:
    batch = MicroBatches(collator(), layout).one(ROWS)
    assert sorted(batch.ids) == sorted(one.id for one in ROWS)
    padding, of_padded = (int((~one.mask()).sum()) for one in (batch, collator().train(ROWS)))
    assert padding == 0 if layout.one else padding < 0.3 * of_padded


@pytest.mark.parametrize("processor", [llava(special=CHATML_TOKENS), llava_next(), idefics3()])
def test_lengths_are_those_of_the_processor(processor: object) -> None:
    made = Collator(processor, None, always_image=False)
    asked = [
        simple("one", "what is it"),
        row("none", say("user", "why"), say("assistant", "so")),
        row("two", say("user", "IMAGE", "and", "IMAGE"), say("assistant", "no")),
    ]
    lengths = SampleLengths(made)
    for one in asked:
        assert lengths.of([one]) == made.train([one]).mask().sum(1).tolist(), one.id
