"""Gold answers that are longer than a model may answer: nobody could give them, and a score of 0 would not say so."""

import logging
from collections.abc import Sequence
from functools import cache
from typing import Any

from lmmcl.data.row import Row

log = logging.getLogger(__name__)


def tell_cut_answers(task: str, max_new_tokens: int, rows: Sequence[Row], processor: Any) -> None:
    """Says, once for a task, how many of its answers cannot be given in full.

    Args:
        task: its name.
        max_new_tokens: longest answer in tokens.
        rows: that are measured; one that ends with a question has no answer to be cut.
        processor: with a tokenizer; without one nothing is counted.
    """
    tokenizer = getattr(processor, "tokenizer", None)
    answered = [row for row in rows if row.messages[-1].get("role") == "assistant"]
    if tokenizer is None or not answered:
        return
    found = tokenizer([row.answer.strip() for row in answered], add_special_tokens=False).input_ids
    lengths = [len(ids) for ids in found]
    cut = [row.id for row, length in zip(answered, lengths, strict=True) if length > max_new_tokens]
    if cut:
        _tell(
            f"{task}: {len(cut):,} of {len(rows):,} gold answers are longer than max_new_tokens: {max_new_tokens} (row "
            f"{cut[0]!r}); such answers cannot be given in full, raise it to {max(lengths)}."
        )


@cache
def _tell(text: str) -> None:
    log.warning("%s", text)
