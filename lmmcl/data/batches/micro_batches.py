"""Which samples stand in a micro-batch: a number of them, or as many as fit a number of tokens; padded or packed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

from lmmcl.data.batches.apart import NotApartError, unforeseen
from lmmcl.data.batches.batch import Batch
from lmmcl.data.batches.collate import Collator
from lmmcl.data.batches.held_pictures import holding_pictures
from lmmcl.data.batches.packing import arrange, best_fit, extent, pack
from lmmcl.data.batches.sample_length import SampleLengths, with_open_pictures
from lmmcl.data.row import Row


@dataclass(frozen=True)
class Layout:
    """How samples are laid into micro-batches.

    Args:
        tokens: positions of a micro-batch at most, padding included; None: the number of samples decides.
        packing: lay samples one after the other instead of padding each.
        one: where packed, into one sequence, as flash attention wants them; else into several of like length.
        apart: the pictures of every sample can be told apart, see `Collator.train`.
    """

    tokens: int | None = None
    packing: bool = False
    one: bool = False
    apart: bool = False


PADDED = Layout()
"""Any number of samples in a micro-batch, each padded."""


def by_tokens(
    lengths: Sequence[int], layout: Layout, pictured: Sequence[bool] | None = None, filler: int = 0
) -> list[list[int]]:
    """Deals samples to micro-batches of at most ``layout.tokens`` positions, the longest first.

    Args:
        lengths: of the samples; one that is longer than the limit stands alone.
        layout: with a number of tokens.
        pictured: which samples have a picture; a micro-batch without any gets the filler. None: there is no filler.
        filler: tokens of the sample that is added.

    Returns:
        positions of the samples in each micro-batch, in the order in which they are packed.
    """
    assert layout.tokens is not None
    left = sorted(range(len(lengths)), key=lambda sample: -lengths[sample])
    dealt: list[list[int]] = []
    while left:
        for taken in _dealt([lengths[sample] for sample in left], layout):
            samples = [left[place] for place in taken]
            if pictured is not None and not any(pictured[sample] for sample in samples):
                samples = samples[: _beside([lengths[sample] for sample in samples], filler, layout)]
            dealt.append(samples)
        gone = set(chain(*dealt))
        left = [sample for sample in left if sample not in gone]
    return dealt


def _dealt(lengths: Sequence[int], layout: Layout) -> list[list[int]]:
    """Some micro-batches of samples that are sorted, the longest first: all of them, or the first."""
    assert layout.tokens is not None
    if layout.packing and layout.one:
        return best_fit(lengths, layout.tokens)
    if layout.packing:
        return [arrange(lengths, layout.tokens)]
    return [list(range(min(len(lengths), max(1, layout.tokens // lengths[0]))))]


def _beside(lengths: Sequence[int], filler: int, layout: Layout) -> int:
    """How many of the samples of a micro-batch stay in it when the filler joins them, at least one."""
    assert layout.tokens is not None
    for count in range(len(lengths), 1, -1):
        held = [*lengths[:count], filler]
        size = extent(held, layout.one, layout.tokens) if layout.packing else len(held) * max(held)
        if size <= layout.tokens:
            return count
    return 1


class MicroBatches:
    """Makes micro-batches of rows.

    Lengths are counted before the samples are made, to say which stand together; should a count be wrong, it costs
    padding or a smaller micro-batch, but the limit holds.

    Args:
        collator: makes padded batches.
        layout: how samples are laid.
    """

    def __init__(self, collator: Collator, layout: Layout = PADDED) -> None:
        self.collator = collator
        self.layout = layout
        self._lengths = SampleLengths(collator)

    def one(self, rows: Sequence[Row]) -> Batch:
        """One micro-batch of all rows.

        Args:
            rows: at least one.

        Raises:
            UserError: see `Collator.train`.
        """
        if not self.layout.packing:
            return self._made(rows)
        rows = [with_open_pictures(row) for row in rows]
        lengths = self._lengths.of(rows)
        if not self.layout.one:
            rows = [rows[place] for place in arrange(lengths)]
        return self._laid(self._made(rows))

    def within_limit(self, rows: Sequence[Row]) -> tuple[list[Batch], list[str]]:
        """Micro-batches of at most ``layout.tokens`` positions.

        Args:
            rows: any number.

        Returns:
            the micro-batches, and the ids of rows that are longer than the limit by themselves, or with the filler that
            stands beside a text, each of which stands alone.

        Raises:
            UserError: see `Collator.train`.
        """
        if not rows:
            return [], []
        rows = holding_pictures(rows)
        batches: list[Batch] = []
        beyond: list[str] = []
        for places in self._counted(rows):
            self._add([rows[place] for place in places], batches, beyond)
        return batches, beyond

    def filler(self, like: Row) -> Batch:
        """See `Collator.filler`; laid as other micro-batches are, so that no other kind of forward is compiled."""
        try:
            return self._laid(self.collator.filler(like, self.layout.apart))
        except NotApartError as error:
            raise unforeseen(error) from error

    def _made(self, rows: Sequence[Row]) -> Batch:
        try:
            return self.collator.train(rows, self.layout.apart)
        except NotApartError as error:
            raise unforeseen(error) from error

    def _counted(self, rows: Sequence[Row]) -> list[list[int]]:
        """Positions of the rows of each micro-batch."""
        lengths = self._lengths.of(rows)
        if not self.collator.always_image:
            return by_tokens(lengths, self.layout)
        return by_tokens(lengths, self.layout, [bool(row.images) for row in rows], self._filler_tokens)

    @cached_property
    def _filler_tokens(self) -> int:
        """Of the sample that the collator adds to a micro-batch without pictures."""
        return int(self.collator.filler().mask().sum())

    def _add(self, rows: Sequence[Row], batches: list[Batch], beyond: list[str]) -> None:
        """Makes a micro-batch, or two of half the rows should it be larger than they were counted to be."""
        assert self.layout.tokens is not None
        batch = self._laid(self._made(rows))
        too_large = batch.mask().numel() > self.layout.tokens
        if too_large and len(rows) > 1:
            half = len(rows) // 2
            self._add(rows[:half], batches, beyond)
            self._add(rows[half:], batches, beyond)
            return
        if too_large and rows[0].id in batch.ids:  # else it was dropped
            beyond.append(rows[0].id)
        batches.append(batch)

    def _laid(self, batch: Batch) -> Batch:
        if not self.layout.packing:
            return batch
        pad = self.collator.processor.tokenizer.pad_token_id
        return pack(batch, pad, self.layout.one, self.layout.tokens)
