"""Nothing is cut: every sample fits the model, and every gold answer fits what the task lets a model say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lmmcl.data.batches.batch import Batch
from lmmcl.data.batches.collate import Collator
from lmmcl.data.batches.order import subset
from lmmcl.data.row import Row
from lmmcl.errors import UserError
from lmmcl.preflight.finding import Finding, Level, some
from lmmcl.preflight.look import Size
from lmmcl.preflight.scan import Scanned, Seen
from lmmcl.preflight.spread import spread

MEASURED = 2
"""Rows of a part that the processor measures: so many drawn at random, and so many of the longest."""
_SUSPECTS = 32
"""Rows of a part that seem too long and are measured."""


@dataclass(frozen=True)
class Measured:
    """A row as the processor makes it.

    Args:
        tokens: of the prompt and, of a training row, its answer, pictures included; 0 where it refused.
        pictures: what the pictures added to the text, in tokens.
        pixels: numbers in `pixel_values`; 0 where there are none.
        error: what it refused with.
    """

    tokens: int
    pictures: int = 0
    pixels: int = 0
    error: str = ""


@dataclass(frozen=True)
class Lengths:
    """How long the samples of one part are, in tokens.

    Args:
        part: the part.
        guessed: of every row; exact where the processor measured it, see `measure`.
        longest: the most that was measured.
        pixels: the most numbers that one sample puts into the vision tower.
        errors: what the processor refused, by row id.
        too_long: ids and lengths of rows that do not fit, the measured ones.
        beyond: how many more rows seem not to fit.
    """

    part: Scanned
    guessed: list[int]
    longest: int
    pixels: int
    errors: tuple[str, ...]
    too_long: tuple[tuple[str, int], ...]
    beyond: int


def measure(
    scanned: Sequence[Scanned], processor: Any, limit: int | None, processes: int | None = None
) -> list[Lengths]:
    """Lengths of all samples: text counted to the token, pictures by their sizes, the longest by the processor itself.

    The processor runs over a few rows of every part; what a picture of a size adds is known from them, or from the
    processor's own count by size, or guessed as the most that was seen.

    Args:
        scanned: the parts.
        processor: the checkpoint's.
        limit: most tokens of a sample; None: any number.
        processes: see `spread`.
    """
    collator = Collator(processor, None, always_image=False)

    def run(job: tuple[int, int]) -> Measured:
        part = scanned[job[0]].part
        return _measured(collator, part.rows[job[1]], part.part == "train")

    def measured(jobs: list[tuple[int, int]]) -> dict[tuple[int, int], Measured]:
        jobs = [(number, place) for number, place in jobs if scanned[number].seen[place].sound]
        return dict(zip(jobs, spread(jobs, run, 0 if len(jobs) < 2 * MEASURED else processes), strict=True))

    known = measured(
        [
            (number, place)
            for number, part in enumerate(scanned)
            for place in subset([0] * len(part.seen), MEASURED, part.part.task.name, "preflight", "lengths")
        ]
    )
    added = _Added(processor, [(scanned[n].seen[place], one) for (n, place), one in known.items()])
    guesses = [[added.guess(row, part.part.part == "train") for row in part.seen] for part in scanned]
    suspects = [
        (number, place)
        for number, guessed in enumerate(guesses)
        for place in _longest(guessed, limit)
        if (number, place) not in known
    ]
    known |= measured(suspects)
    return [
        _lengths(part, guesses[number], {p: one for (n, p), one in known.items() if n == number}, limit)
        for number, part in enumerate(scanned)
    ]


def _longest(guessed: Sequence[int], limit: int | None) -> list[int]:
    order = sorted(range(len(guessed)), key=lambda place: -guessed[place])
    suspects = 0 if limit is None else sum(length > limit for length in guessed)
    return order[: max(MEASURED, min(suspects, _SUSPECTS))]


def _lengths(part: Scanned, guessed: list[int], known: dict[int, Measured], limit: int | None) -> Lengths:
    for place, one in known.items():
        guessed[place] = one.tokens
    over = [place for place, length in enumerate(guessed) if limit is not None and length > limit]
    longest = max(known.values(), key=lambda one: one.tokens, default=Measured(0))
    return Lengths(
        part,
        guessed,
        longest.tokens,
        max((one.pixels for one in known.values()), default=0),
        tuple(one.error for one in known.values() if one.error),
        tuple((part.seen[place].id, guessed[place]) for place in over if place in known),
        sum(place not in known for place in over),
    )


def _measured(collator: Collator, row: Row, whole: bool) -> Measured:
    try:
        batch = collator.train([row]) if whole else collator.prompts([row])
        text = collator.template.conversations([row])[0]
    except UserError as error:
        return Measured(0, error=str(error))
    tokens = int(batch.inputs["attention_mask"].sum())
    answer = 0 if whole or not text.learned else len(text.ids) - text.learned[-1][0]
    return Measured(tokens, tokens - (len(text.ids) - answer), _pixels(batch))


def _pixels(batch: Batch) -> int:
    pixels = batch.inputs.get("pixel_values")
    return 0 if pixels is None else int(pixels.numel())


class _Added:
    """Tokens that pictures add to a text, by their sizes."""

    def __init__(self, processor: Any, known: Sequence[tuple[Seen, Measured]]) -> None:
        single = [(row.sizes[0], one.pictures) for row, one in known if len(row.sizes) == 1 and not one.error]
        self._exact: dict[Size | None, int] = dict(single)
        self._most = max(self._exact.values(), default=0)
        self._processor = processor
        self._margin = -1  # one of them is the placeholder, which the text has already
        counted = [
            (size, added) for size, added in single if size is not None and self._count(size) is not None
        ]
        self._margin = max((added - (self._count(size) or 0) for size, added in counted), default=-1)

    def guess(self, row: Seen, whole: bool) -> int:
        """Tokens of a row with its pictures."""
        return row.tokens - (0 if whole else row.answer_tokens) + sum(self._of(size) for size in row.sizes)

    def _of(self, size: Size | None) -> int:
        if size not in self._exact:
            count = None if size is None else self._count(size)
            self._exact[size] = self._most if count is None else count + self._margin
        return self._exact[size]

    def _count(self, size: Size) -> int | None:
        """The processor's own count, where it has one."""
        try:
            counted = self._processor._get_num_multimodal_tokens(image_sizes=[list(size)])
            return int(counted["num_image_tokens"][0])
        except (AttributeError, NotImplementedError, KeyError, TypeError, ValueError):
            return None


def check_lengths(lengths: Sequence[Lengths], limit: int | None, on_too_long: str) -> Iterator[Finding]:
    """Samples that the model cannot hold, rows that the processor refuses, answers longer than may be generated."""
    found: list[Finding] = []
    for one in lengths:
        task, training = one.part.part.task, one.part.part.part == "train"
        found += [Finding("failure", "length", task.name, error) for error in one.errors]
        dropped = training and on_too_long == "drop"
        out = (
            "data.on_too_long: drop leaves it out"
            if dropped
            else (
                "raise model.max_length, shorten the row"
                + (", or set data.on_too_long: drop" if training else "")
            )
        )
        level: Level = "warning" if dropped else "failure"
        found += [
            Finding(
                level,
                "length",
                task.name,
                f"row {name!r}: a sample must fit into {limit} tokens, it has {length}; {out}.",
            )
            for name, length in one.too_long
        ]
        if one.beyond:
            text = f"{one.beyond:,} more rows seem longer than {limit} tokens (the processor was not asked)"
            found.append(Finding(level, "length", task.name, text))
        found += _unsayable(one)
    yield from some(found)
    if not any(finding.level == "failure" for finding in found):
        longest = max(lengths, key=lambda one: one.longest)
        name = longest.part.part.task.name
        yield Finding(
            "ok",
            "length",
            "",
            f"nothing is cut: the longest sample ({name}) has {longest.longest:,} of {limit or 'any number of'} tokens",
        )


def _unsayable(one: Lengths) -> Iterator[Finding]:
    """Gold answers that the task's limit of generation would cut."""
    task = one.part.part.task
    if one.part.part.part == "train":
        return
    # The end of turn is one of the tokens that are counted, and need not be generated to be scored.
    cut = [row for row in one.part.seen if row.answer_tokens - 1 > task.max_new_tokens]
    if cut:
        most = max(row.answer_tokens for row in cut)
        text = (
            f"{len(cut):,} gold answers of {one.part.part.part} rows are longer than max_new_tokens: "
            f"{task.max_new_tokens} (row {cut[0].id!r}); such answers cannot be given in full, raise it to {most}."
        )
        yield Finding("warning", "length", task.name, text)
