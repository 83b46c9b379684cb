"""Which samples stand in a micro-batch: a number of them, or as many as fit a number of tokens; padded or packed."""

from collections.abc import Sequence
from dataclasses import dataclass

from lmmcl.data.batches.batch import Batch
from lmmcl.data.batches.collate import Collator
from lmmcl.data.batches.packing import arrange, best_fit, pack
from lmmcl.data.batches.sample_length import SampleLengths, with_open_pictures
from lmmcl.data.row import Row


@dataclass(frozen=True)
class Layout:
    """How samples are laid into micro-batches.

    Args:
        tokens: positions of a micro-batch at most, padding included; None: the number of samples decides.
        packing: lay samples one after the other instead of padding each.
        one: where packed, into one sequence, as flash attention wants them; else into several of like length.
    """

    tokens: int | None = None
    packing: bool = False
    one: bool = False


PADDED = Layout()
"""Any number of samples in a micro-batch, each padded."""


def by_tokens(lengths: Sequence[int], layout: Layout) -> list[list[int]]:
    """Deals samples to micro-batches of at most ``layout.tokens`` positions, the longest first.

    Args:
        lengths: of the samples; one that is longer than the limit stands alone.
        layout: with a number of tokens.

    Returns:
        positions of the samples in each micro-batch, in the order in which they are packed.
    """
    assert layout.tokens is not None
    if layout.packing and layout.one:
        return best_fit(lengths, layout.tokens)
    left = sorted(range(len(lengths)), key=lambda sample: -lengths[sample])
    dealt: list[list[int]] = []
    while left:
        if layout.packing:
            taken = [left[place] for place in arrange([lengths[sample] for sample in left], layout.tokens)]
        else:
            taken = left[: max(1, layout.tokens // lengths[left[0]])]
        dealt.append(taken)
        gone = set(taken)
        left = [sample for sample in left if sample not in gone]
    return dealt


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
            return self.collator.train(rows)
        rows = [with_open_pictures(row) for row in rows]
        lengths = self._lengths.of(rows)
        if not self.layout.one:
            rows = [rows[place] for place in arrange(lengths)]
        return self._laid(self.collator.train(rows))

    def within_limit(self, rows: Sequence[Row]) -> tuple[list[Batch], list[str]]:
        """Micro-batches of at most ``layout.tokens`` positions.

        Args:
            rows: any number.

        Returns:
            the micro-batches, and the ids of rows that are longer than the limit by themselves, each of which stands
            alone.

        Raises:
            UserError: see `Collator.train`.
        """
        if not rows:
            return [], []
        rows = [with_open_pictures(row) for row in rows]
        batches: list[Batch] = []
        beyond: list[str] = []
        for places in by_tokens(self._lengths.of(rows), self.layout):
            self._add([rows[place] for place in places], batches, beyond)
        return batches, beyond

    def filler(self, like: Row) -> Batch:
        """See `Collator.filler`; laid as other micro-batches are, so that no other kind of forward is compiled."""
        return self._laid(self.collator.filler(like))

    def _add(self, rows: Sequence[Row], batches: list[Batch], beyond: list[str]) -> None:
        """Makes a micro-batch, or two of half the rows should it be larger than they were counted to be."""
        assert self.layout.tokens is not None
        batch = self._laid(self.collator.train(rows))
        too_large = batch.mask().numel() > self.layout.tokens
        if too_large and len(rows) > 1:
            half = len(rows) // 2
            self._add(rows[:half], batches, beyond)
            self._add(rows[half:], batches, beyond)
            return
        if too_large and int(batch.per_sample(batch.mask())[0]) > self.layout.tokens:
            beyond.append(rows[0].id)
        batches.append(batch)

    def _laid(self, batch: Batch) -> Batch:
        if not self.layout.packing:
            return batch
        pad = self.collator.processor.tokenizer.pad_token_id
        return pack(batch, pad, self.layout.one, self.layout.tokens)
