"""PathVQA as the study scores it: yes/no accuracy where the question asks for it, else an exact match of its own."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from lmmcl.scorers.lmms_eval.prediction import stripped
from lmmcl.scorers.score import Score

_VERBS = "is are was were does do did can could would should has have had will shall"
_YES_NO = (*(f"{verb} " for verb in _VERBS.split()), "am i ")


def _words(text: str) -> Counter[str]:
    """How often each word occurs; what is neither a letter a-z nor a space is deleted, line breaks too."""
    return Counter(re.sub("[^a-zA-Z ]", "", text).lower().split())


def _exact_match(said: Counter[str], wanted: Counter[str]) -> float:
    """Distinct gold words that were said, over the number of words said."""
    return len(said.keys() & wanted.keys()) / said.total() if said else 0.0


def _token_f1(said: Counter[str], wanted: Counter[str]) -> float:
    """Harmonic mean of the shares of said words that are right and of right words found.

    A right word counts as often as it was said, a missing one as often as it was wanted: repeating a word costs
    nothing.
    """
    right = sum(times for word, times in said.items() if word in wanted)
    missing = sum(times for word, times in wanted.items() if word not in said)
    if not right:
        return 0.0
    precision, recall = right / said.total(), right / (right + missing)
    return 2 * precision * recall / (precision + recall)


def path_vqa(prediction: str, gold: Any, meta: Mapping[str, Any]) -> Score:
    """Whether the texts are equal in lower case for a yes/no question, else the exact match over words.

    A yes/no question is one that begins with is, are, was, were, does, do, did, can, could, would, should, has,
    have, had, will, shall or "am I"; its gold answer need not be yes or no. The original has one mean for each of the
    parts and no score for all questions; this one is the yes/no part where there is one, else the exact match.

    Args:
        prediction: the model's answer.
        gold: the right answer.
        meta: ``question``: the question as the data has it.

    Returns:
        From 0 to 1, with the parts ``exact_match`` and ``token_f1``, and ``yes_no`` for such a question; unreadable
        when no word is said.
    """
    said, wanted = stripped(prediction), str(gold)
    words, gold_words = _words(said), _words(wanted)
    parts = {"exact_match": _exact_match(words, gold_words), "token_f1": _token_f1(words, gold_words)}
    if str(meta.get("question", "")).lower().strip().startswith(_YES_NO):
        parts["yes_no"] = float(said.lower().strip() == wanted.lower().strip())
    value = parts.get("yes_no", parts["exact_match"])
    return Score(value, parsed=bool(words or value), parts=parts)
