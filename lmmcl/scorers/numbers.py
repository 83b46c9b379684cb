"""Reads the numbers that a text mentions, in digits and in words."""

import re
import unicodedata
from fractions import Fraction
from math import prod

_ONES = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}

UNITS: dict[str, int] = {word: value for value, word in enumerate(_ONES)}
UNITS |= {word: 10 * value for value, word in enumerate(_TENS, start=2)}
SMALL_NUMBERS: dict[str, int] = {word: value for word, value in UNITS.items() if value <= 12}

# A digit run glued to letters is a name or an ordinal ("3D", "2nd", "B12"), not a count. The bounds keep a model that
# repeats a digit for ever from making a number that Python refuses to read.
_DIGITS = r"(?<![\w.,/])[-−+]?\d{1,30}(?:/\d{1,30}|(?:,\d{3}){0,9}(?:\.\d{1,30})?)(?![\w/]|[.,]\d)"
_WORD = "|".join(sorted([*UNITS, *_SCALES, "dozen"], key=len, reverse=True))
_ARTICLE = r"(?:(?:half\s+)?an?\s+(?=dozen|hundred|thousand|million))"
# "twenty-first" is an ordinal, and no part of it a count.
_ORDINAL = r"-(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth)\b"
_WORDS = rf"\b(?>{_ARTICLE}?(?:{_WORD})(?:(?:\s*-\s*|\s+|\s+and\s+)(?:{_WORD}))*)\b(?!{_ORDINAL})"
_SCALE = rf"(?P<scale>(?:[\s-]{{0,3}}\b(?:{'|'.join(_SCALES)}|dozen)\b){{1,3}})"
_MENTION = re.compile(
    rf"(?P<minus>\b(?:minus|negative)\s+)?(?:(?P<digits>{_DIGITS}){_SCALE}?|(?P<words>{_WORDS}))"
    r"(?P<half>\s+and\s+a\s+half\b)?",
    re.IGNORECASE,
)


def _of_words(phrase: str) -> list[Fraction]:
    """The values of a run of number words; "twenty one" is one number, "two three" are two."""
    total, current, last = 0, 0, None
    values: list[Fraction] = []
    words = re.findall(r"[a-z]+", phrase.lower())
    half = words[:1] == ["half"]
    for word in words:
        if word in UNITS:
            value = UNITS[word]
            continues = last is None or last in _SCALES or (last in _TENS and 0 < value < 10)
            if not continues:
                values.append(Fraction(total + current))
                total, current = 0, 0
            current += value
            last = word
        elif word in _SCALES or word == "dozen":
            scale = 12 if word == "dozen" else _SCALES[word]
            current = max(current, 1) * scale
            if scale >= 1000:
                total, current = total + current, 0
            last = word
    values.append(Fraction(total + current))
    return [value / 2 for value in values] if half else values


def mentions(text: str) -> list[Fraction]:
    """All numbers a text mentions, in order and exact.

    "3.5" and "three and a half" are seven halves, "1,200" and "1.2 thousand" are 1200, "minus three" is -3.
    """
    found: list[Fraction] = []
    for match in _MENTION.finditer(unicodedata.normalize("NFKC", text)):
        digits = match["digits"]
        if digits is None:
            values = _of_words(match["words"])
        elif re.search(r"/0+$", digits):
            continue
        else:
            scales = re.findall(r"[a-z]+", (match["scale"] or "").lower())
            scale = prod(12 if word == "dozen" else _SCALES[word] for word in scales)
            values = [Fraction(digits.replace(",", "").replace("−", "-")) * scale]
        if match["half"]:
            values[-1] += Fraction(1, 2)
        if match["minus"]:
            values[0] = -values[0]
        found += values
    return found
