"""Which tokens of a sample are learned, as the first rows show it and as every labelled batch proves it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

from lmmcl.data.batches.batch import IGNORED
from lmmcl.data.batches.collate import Collator
from lmmcl.data.batches.template import text_of
from lmmcl.data.row import Row
from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.preflight.finding import Finding

Kind = Literal["prompt", "image", "answer"]


@dataclass(frozen=True)
class Piece:
    """A run of tokens of one kind.

    Args:
        kind: ``prompt`` is read, ``image`` stands for a picture, ``answer`` is learned.
        text: decoded; empty for image tokens.
        tokens: how many.
    """

    kind: Kind
    text: str
    tokens: int


def pieces(collator: Collator, row: Row, image: int | None) -> list[Piece]:
    """A training sample, cut where the mask or the kind of token changes.

    Args:
        collator: of the run.
        row: a training row.
        image: id of the token that stands for an image feature; None where there is none.

    Raises:
        UserError: the row makes no sample.
    """
    batch = collator.train([row])
    assert batch.labels is not None
    ids, labels = batch.inputs["input_ids"][0].tolist(), batch.labels[0].tolist()
    marked: list[tuple[Kind, int]] = [
        ("answer" if label != IGNORED else "image" if token == image else "prompt", token)
        for token, label in zip(ids, labels, strict=True)
    ]
    cut = []
    for kind, run in groupby(marked, key=lambda entry: entry[0]):
        tokens = [token for _, token in run]
        cut.append(Piece(kind, "" if kind == "image" else _decoded(collator, tokens), len(tokens)))
    return cut


def _decoded(collator: Collator, tokens: list[int]) -> str:
    text: str = collator.template.tokenizer.decode(
        tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    return text


def check_mask(processor: Any, samples: Sequence[tuple[Task, Row]]) -> Iterator[Finding]:
    """The labels of some rows must decode to their answers, with an end of turn behind the last one.

    Some templates (Vicuna's) write no end of turn between turns.

    Args:
        processor: the checkpoint's.
        samples: training rows.
    """
    collator = Collator(processor, None, always_image=False)
    fine = 0
    ends = set()
    for task, row in samples:
        try:
            learned = [piece.text for piece in pieces(collator, row, None) if piece.kind == "answer"]
        except UserError:
            continue  # told by the check of rows
        answers = [text_of(message).strip() for message in row.messages if message["role"] == "assistant"]
        wrong = (
            len(learned) != len(answers)
            or not all(map(_begins, learned, answers))
            or learned[-1].strip() == answers[-1]
        )
        if wrong:
            text = (
                f"row {row.id!r}: labels must decode to the answers {answers!r}, and decode to {learned!r}."
            )
            yield Finding("failure", "mask", task.name, text)
            continue
        fine += 1
        ends.add(learned[-1].strip()[len(answers[-1]) :].strip())
    if fine:
        text = f"{fine} rows: labels decode to the answer and its end of turn ({', '.join(sorted(ends))}), nothing else"
        yield Finding("ok", "mask", "", text)


def _begins(said: str, answer: str) -> bool:
    return " ".join(said.split()).startswith(" ".join(answer.split()))
