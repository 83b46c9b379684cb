"""Which tokens of a vocabulary are numbers, option letters, yes or no, or match a pattern."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from lmmcl.errors import UserError

_DIGITS = r"\d+"
_ORDINAL = r"\d+(?:st|nd|rd|th)"
_NUMERAL = r"\d*[.,]\d+|\d+[.,]"
_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
)
_TENS = "seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety"
_MANY = "hundred thousand million billion trillion hundreds thousands millions billions dozen dozens"
_PLACES = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
_WORDS = "|".join(f"{_ONES} {_TENS} {_MANY} {_PLACES}".split())

PATTERNS = {
    "numbers": rf"(?i:{_DIGITS}|{_ORDINAL}|{_NUMERAL}|{_WORDS})",
    "letters": "[A-Z]",
    "yes_no": "(?i:yes|no)",
}
"""The named classes, by the pattern that a token's text without its surrounding space must match as a whole.

Numbers are digits, ordinals, numerals with one dot or comma, and number words (the counting bias of arXiv 2510.08564).
Letters are the capitals, as options are called by: a small ``a`` is a word of every caption.
"""


def token_texts(vocabulary: Iterable[str]) -> list[str]:
    """The text of each token as it stands in an answer, its leading space included.

    SentencePiece marks a space with ``▁`` and writes a byte as ``<0x31>``. Byte-level BPE (GPT-2 and its heirs) writes
    every byte as a printable character, a space as ``Ġ``; a vocabulary is of this kind where that sign begins more
    tokens than the other (Maltese has it as a letter).

    Args:
        vocabulary: tokens as the tokenizer lists them.
    """
    tokens = list(vocabulary)
    if sum(token.startswith("Ġ") for token in tokens) > sum(token.startswith("▁") for token in tokens):
        return [_from_bytes(token) for token in tokens]
    return [_from_pieces(token) for token in tokens]


def token_class(vocabulary: Mapping[str, int], kind: str) -> list[int]:
    """Ids of the tokens of a class, with or without the tokenizer's mark of a leading space.

    Args:
        vocabulary: token to id, as ``tokenizer.get_vocab()`` gives it.
        kind: ``numbers``, ``letters``, ``yes_no``, or a regular expression, which the token's text without its
            surrounding space must match as a whole.

    Returns:
        Rising ids.

    Raises:
        UserError: the expression is not valid, or no token matches.
    """
    try:
        pattern = re.compile(PATTERNS.get(kind, kind))
    except re.error as error:
        raise UserError(
            f"trainer.callbacks: a class of tokens must be {', '.join(PATTERNS)} or a regular expression, got "
            f"{kind!r} ({error})."
        ) from error
    found = _matching(vocabulary, pattern)
    if not found:
        raise UserError(
            f"trainer.callbacks: no token of the model's {len(vocabulary)} is of the class {kind!r}; a regular "
            "expression must match a token's whole text."
        )
    return found


def token_partition(vocabulary: Mapping[str, int], size: int) -> dict[str, list[int]]:
    """Every logit in one class: ``numbers``, ``letters``, ``yes/no`` and the ``rest``; a class may be empty.

    Args:
        vocabulary: token to id.
        size: number of logits, of which some may belong to no token.
    """
    classes = {
        kind.replace("_", "/"): [i for i in _matching(vocabulary, re.compile(pattern)) if i < size]
        for kind, pattern in PATTERNS.items()
    }
    taken = {number for ids in classes.values() for number in ids}
    return {**classes, "rest": [number for number in range(size) if number not in taken]}


def _matching(vocabulary: Mapping[str, int], pattern: re.Pattern[str]) -> list[int]:
    texts = zip(token_texts(vocabulary), vocabulary.values(), strict=True)
    return sorted({number for text, number in texts if pattern.fullmatch(text.strip())})


def _byte_characters() -> dict[str, int]:
    """Byte-level BPE's printable character of each byte (GPT-2's ``bytes_to_unicode``)."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in own]
    characters = {chr(byte): byte for byte in own}
    return characters | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTE = _byte_characters()


def _from_bytes(token: str) -> str:
    if any(character not in _BYTE for character in token):  # an added token, which stands as it is
        return token
    return bytes(_BYTE[character] for character in token).decode("utf-8", errors="replace")


def _from_pieces(token: str) -> str:
    byte = re.fullmatch(r"<0x([0-7][0-9A-Fa-f])>", token)
    return chr(int(byte[1], 16)) if byte else token.replace("▁", " ")
