"""Micro-batches of a number of tokens: the limit holds whatever is counted, and no sample is lost."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from weakref import finalize

import pytest
import torch
from PIL import Image

import lmmcl.data.batches.held_pictures
from lmmcl.data.batches import collate
from lmmcl.data.batches.apart import NotApartError
from lmmcl.data.batches.batch import Batch
from lmmcl.data.batches.collate import FILLER_ID, Collator
from lmmcl.data.batches.micro_batches import Layout, MicroBatches, by_tokens
from lmmcl.data.batches.packing import in_turn
from lmmcl.data.batches.sample_length import SampleLengths
from lmmcl.data.row import Row
from lmmcl.errors import UserError
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


def test_a_text_that_is_too_long_with_the_picture_beside_it_is_told() -> None:
    text = row("text", say("user", "what"), say("assistant", "red"))
    with_filler = Collator(llava(special=CHATML_TOKENS), None)
    size = with_filler.train([text]).mask()
    assert int(size[0].sum()) < int(size.numel()) - 1
    batches, beyond = MicroBatches(with_filler, Layout(int(size.numel()) - 1)).within_limit([text])
    assert (len(batches), beyond) == (1, ["text"])
    assert MicroBatches(with_filler, Layout(int(size.numel()))).within_limit([text])[1] == []


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


@pytest.mark.parametrize("layout", [PADDED, PACKED, ONE])
@pytest.mark.parametrize("seed", range(4))
def test_a_micro_batch_without_pictures_has_room_for_the_filler(layout: Layout, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 60, (40,), generator=draw).tolist()
    pictured = (torch.rand(40, generator=draw) < 0.2).tolist()
    dealt = by_tokens(lengths, layout, pictured, filler=20)
    assert sorted(chain(*dealt)) == list(range(40))
    alone = [samples for samples in dealt if not any(pictured[sample] for sample in samples)]
    assert sum(len(samples) > 1 for samples in alone) >= 1
    for sizes in ([lengths[sample] for sample in samples] + [20] for samples in alone):
        laid = [in_turn(sizes, size) for size in range(max(sizes), 161)]
        fewest = min(len(each) * max(sum(sizes[s] for s in one) for one in each) for each in laid)
        assert (fewest if layout.packing else len(sizes) * max(sizes)) <= 160
    if any(pictured):
        assert by_tokens(lengths, layout, [True] * 40, 20) == by_tokens(lengths, layout)


@pytest.mark.parametrize("layout", [PADDED, PACKED, ONE])
def test_a_full_micro_batch_of_texts_is_made_once_with_its_filler(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [row(str(i), say("user", "what " * (i % 4)), say("assistant", "red")) for i in range(30)]
    made: list[int] = []
    train = Collator.train

    def watched(self: Collator, rows: Sequence[Row], apart: bool = False) -> Batch:
        made.append(len(rows))
        return train(self, rows, apart)

    monkeypatch.setattr(Collator, "train", watched)
    batches = MicroBatches(Collator(llava(special=CHATML_TOKENS), None), replace(layout, tokens=400))
    lengths = batches._lengths.of(texts)
    made.clear()
    found, _ = batches.within_limit(texts)
    assert len(made) == len(found)
    assert all(batch.ids.count(FILLER_ID) == 1 and batch.mask().numel() <= 400 for batch in found)
    assert len(found) <= 1.3 * -(-sum(lengths) // (400 - batches._filler_tokens))


class BigPictures:
    """Rows whose pictures are made when they are opened, and what is alive of them."""

    def __init__(self) -> None:
        self.opened = self.alive = self.most = 0
        self.rows = [replace(one, images=tuple(self.source() for _ in one.images)) for one in ROWS]

    def source(self) -> Callable[[], Image.Image]:
        def opened() -> Image.Image:
            picture = Image.new("RGB", (64, 64), (self.opened % 256, 0, 0))
            finalize(picture, self.let_go)
            self.opened, self.alive = self.opened + 1, self.alive + 1
            self.most = max(self.most, self.alive)
            return picture

        return opened

    def let_go(self) -> None:
        self.alive -= 1


def test_few_pictures_are_held_between_counting_and_making(monkeypatch: pytest.MonkeyPatch) -> None:
    count = sum(len(one.images) for one in ROWS)
    plenty, scarce = BigPictures(), BigPictures()
    expected, _ = MicroBatches(collator(), PADDED).within_limit(plenty.rows)
    assert plenty.opened == plenty.most == count
    monkeypatch.setattr(lmmcl.data.batches.held_pictures, "HELD_BYTES", 2 * 3 * 64 * 64)
    found, _ = MicroBatches(collator(), PADDED).within_limit(scarce.rows)
    assert [batch.ids for batch in found] == [batch.ids for batch in expected]
    assert scarce.opened == 2 * count - 2
    largest = max(sum("pixel_values" in batch.inputs and 1 for _ in batch.ids) for batch in expected)
    assert scarce.most <= 2 + largest < count


def test_the_filler_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Collator(llava(special=CHATML_TOKENS), None)
    first = made.filler(ROWS[0])
    monkeypatch.setattr(Collator, "_process", lambda *arguments: pytest.fail("made again"))
    again = made.filler(replace(ROWS[1], extras={"weight": 2.0}))
    assert again.inputs.keys() == first.inputs.keys()
    assert all(torch.equal(again.inputs[key], value) for key, value in first.inputs.items())
    assert float(again.extras["weight"]) == 2.0 and not first.extras


def test_a_processor_that_says_something_odd_of_a_later_row_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def odd(made: object, pad: int) -> None:
        raise NotApartError("its processor gives rows as list")

    monkeypatch.setattr(collate, "laid_together", odd)
    batches = MicroBatches(collator(), Layout(apart=True))
    said = r"gives rows as list.*--ckpt_path last"
    with pytest.raises(UserError, match=said):
        batches.one(ROWS[1:2])
    with pytest.raises(UserError, match=said):
        batches.filler(ROWS[0])
