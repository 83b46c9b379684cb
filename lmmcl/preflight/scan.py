"""Reads every row once, in all processes: prompt and answer, pictures, gold answer, length, what it shows and asks."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from lmmcl.data.batches.order import subset
from lmmcl.data.batches.template import ChatTemplate, Rendered
from lmmcl.data.row import Message, Row
from lmmcl.data.task import Part, Task
from lmmcl.errors import UserError
from lmmcl.preflight.finding import Level
from lmmcl.preflight.gold import gold_fault
from lmmcl.preflight.look import Look, Size, look
from lmmcl.preflight.spread import spread

AT_ONCE = 256
"""Rows of one job: enough to render and tokenize together."""
SAMPLE = 32
"""Rows of a part whose pictures are decoded."""
_ALONE = 2000
"""Rows from which further processes are worth their start."""


@dataclass(frozen=True)
class Rows:
    """The rows of one part of a task that a run will use.

    Args:
        task: the task.
        part: ``train`` for what is learned, ``test`` for what is reported, ``dev`` for what chooses.
        rows: the rows.
    """

    task: Task
    part: Part
    rows: Sequence[Row]


@dataclass(frozen=True)
class Seen:
    """What one row showed.

    Args:
        id: of the row.
        tokens: of the whole conversation, each picture as its placeholder.
        answer_tokens: of the last answer with its end of turn.
        sizes: of the pictures (height, width); None for one that was not made.
        marks: hashes of each picture.
        decoded: how many pictures were decoded.
        question: hash of everything said but the last answer.
        answer: hash of the last answer.
        faults: check, level and text of what is wrong with it.
    """

    id: str
    tokens: int = 0
    answer_tokens: int = 0
    sizes: tuple[Size | None, ...] = ()
    marks: tuple[tuple[bytes, ...], ...] = ()
    decoded: int = 0
    question: bytes = b""
    answer: bytes = b""
    faults: tuple[tuple[str, Level, str], ...] = ()

    @property
    def sound(self) -> bool:
        """Whether it makes a sample."""
        return not any(check in ("rows", "pictures") for check, _, _ in self.faults)


@dataclass(frozen=True)
class Scanned:
    """A part after the scan; ``seen`` has one entry per row, in order."""

    part: Rows
    seen: list[Seen] = field(default_factory=list)


def scan(
    parts: Sequence[Rows],
    processor: Any,
    *,
    decode_all: bool = False,
    sample: int = SAMPLE,
    processes: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Scanned]:
    """Reads every row of all parts.

    Args:
        parts: what to read.
        processor: the checkpoint's; None leaves out what needs its chat template.
        decode_all: decode every picture instead of a seeded sample of each part.
        sample: rows of that sample.
        processes: see `spread`; None: as many as the rows are worth.
        progress: called with rows done and all rows.
    """
    template = None if processor is None else ChatTemplate(processor)
    if template is not None:
        # The tokenizer would warn of a long row; the check of lengths says it with the model's own limit.
        template.tokenizer.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True
    total = sum(len(part.rows) for part in parts)
    jobs = [
        (number, start) for number, part in enumerate(parts) for start in range(0, len(part.rows), AT_ONCE)
    ]
    samples = [
        set(range(len(part.rows)))
        if decode_all
        else set(subset([0] * len(part.rows), sample, part.task.name, part.part, "preflight"))
        for part in parts
    ]

    def run(job: tuple[int, int]) -> list[Seen]:
        number, start = job
        places = range(start, min(start + AT_ONCE, len(parts[number].rows)))
        return _read(parts[number], places, samples[number], template)

    scanned = [Scanned(part) for part in parts]
    done = 0
    count = processes if processes is not None or total >= _ALONE else 0
    for (number, _), seen in zip(jobs, spread(jobs, run, count), strict=True):
        scanned[number].seen.extend(seen)
        done += len(seen)
        progress(done, total)
    return scanned


def _read(part: Rows, places: range, sample: set[int], template: ChatTemplate | None) -> list[Seen]:
    """What the rows at some places show; one that is broken says so and stops no other."""
    rows: list[Row | None] = []
    faults: list[list[tuple[str, Level, str]]] = []
    looks: list[list[Look]] = []
    for place in places:
        rows.append(None)
        looks.append([])
        faults.append([])
        try:
            row = rows[-1] = part.rows[place]
        except UserError as error:
            faults[-1].append(("rows", "failure", str(error)))
            continue
        try:
            looks[-1] = look(row, place in sample)
        except UserError as error:
            faults[-1].append(("pictures", "failure", str(error)))
        if (fault := gold_fault(part.task, row, part.part != "train")) is not None:
            faults[-1].append(("scorer", *fault))
    rendered = _rendered([row for row in rows if row is not None], template)
    seen = []
    for place, made, pictures, wrong in zip(places, rows, looks, faults, strict=True):
        if made is None:
            seen.append(Seen(f"number {place + 1}", faults=tuple(wrong)))
            continue
        row = made
        one = next(rendered)
        if isinstance(one, UserError):
            wrong.append(("rows", "failure", str(one)))
        text = one if isinstance(one, Rendered) else Rendered("")
        first, last = text.learned[-1] if text.learned else (0, 0)
        question, answer = _digests(row)
        seen.append(
            Seen(
                row.id,
                len(text.ids),
                last - first,
                tuple(picture.size for picture in pictures),
                tuple(picture.marks for picture in pictures),
                sum(picture.decoded for picture in pictures),
                question,
                answer,
                tuple(wrong),
            )
        )
    return seen


def _rendered(rows: Sequence[Row], template: ChatTemplate | None) -> Any:
    """An iterator over the rows as the template writes them, or the error of each that it cannot write."""
    if template is None:
        return iter([Rendered("")] * len(rows))
    try:
        return iter(template.conversations(rows) if rows else [])
    except UserError:
        return (_alone(row, template) for row in rows)


def _alone(row: Row, template: ChatTemplate) -> Rendered | UserError:
    try:
        return template.conversations([row])[0]
    except UserError as error:
        return error


def _digests(row: Row) -> tuple[bytes, bytes]:
    """Hashes of the question and of the answer, blind to case and white space."""
    asked, told = (
        (row.messages[:-1], row.messages[-1:])
        if row.messages[-1]["role"] == "assistant"
        else (row.messages, [])
    )
    return _digest(asked), _digest(told)


def _digest(messages: Sequence[Message]) -> bytes:
    said = [
        [
            message["role"],
            *(" ".join(part.get("text", part["type"]).split()).lower() for part in message["content"]),
        ]
        for message in messages
    ]
    return blake2b(json.dumps(said).encode(), digest_size=12).digest()
