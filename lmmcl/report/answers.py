"""Answers side by side: what was said after every stage, and which words are new."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from lmmcl.evaluation.flips import RIGHT
from lmmcl.report.run_data import RunData, Sample

_LONGEST = 320


@dataclass(frozen=True)
class Spell:
    """Stages in a row that gave the same answer.

    Args:
        first: name of the first one.
        last: name of the last one, "" for a single one.
        pieces: the answer in parts, each with whether it is new against the answer before.
        right: whether it is right.
        changed: whether it differs from the answer before.
    """

    first: str
    last: str
    pieces: Sequence[tuple[str, bool]]
    right: bool
    changed: bool


def shortened(text: str, most: int = _LONGEST) -> str:
    """A text that fits a page; what could not be seen is made visible."""
    text = " ".join(text.split())
    if not text:
        return "(no answer)"
    return text if len(text) <= most else f"{text[: most - 1]}…"


def new_words(before: str, after: str) -> list[tuple[str, bool]]:
    """The later text in parts, each with whether its words stand not in the earlier one at that place."""
    old, new = re.findall(r"\S+\s*", before), re.findall(r"\S+\s*", after)
    plain = [[word.strip() for word in words] for words in (old, new)]
    pieces = []
    for kind, _, _, start, end in SequenceMatcher(a=plain[0], b=plain[1], autojunk=False).get_opcodes():
        if start < end:
            pieces.append(("".join(new[start:end]), kind != "equal"))
    return pieces


def spells(run: RunData, sample: Sample) -> list[Spell]:
    """The answers to a question, stages that said the same taken together."""
    found: list[tuple[int, int, str, bool]] = []
    for stage, answer, score in sample.answers:
        text = shortened(answer)
        if found and found[-1][2] == text:
            found[-1] = (found[-1][0], stage, text, score >= RIGHT)
        else:
            found.append((stage, stage, text, score >= RIGHT))
    made = []
    for k, (first, last, text, right) in enumerate(found):
        pieces = new_words(found[k - 1][2], text) if k else [(text, False)]
        made.append(Spell(_name(run, first), _name(run, last) if last > first else "", pieces, right, k > 0))
    return made


def _name(run: RunData, stage: int) -> str:
    known = stage <= len(run.matrix.targets)
    return run.stage_name(stage).replace("_", " ") if known else f"stage {stage}"
