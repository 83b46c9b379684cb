"""lmms-eval's shared reader of capital letters, which RealWorldQA and MMStar use."""

from collections.abc import Iterable

_TRIMMED = ",.!?;:'\""
# Searched in lower case; each counts at its first place only, so that a longer one may be found later than a shorter.
_PHRASES = (
    "answer is",
    "the answer is",
    "my answer is",
    "correct answer is",
    "the correct answer is",
    "best answer is",
    "the best answer is",
    "correct option is",
    "the correct option is",
    "best option is",
    "the best option is",
    "choice is",
    "the choice is",
    "my choice is",
    "correct choice is",
    "the correct choice is",
    "i choose",
    "i select",
    "i pick",
    "옵션",
    "정답은",
    "답은",
    "답:",
    "答案是",
    "答案为",
    "选",
    "答えは",
)
# Ways to write a letter inside a text, the most trusted first.
_FORMS = ("({})", "{}.", "{}:", "{})", "{} ", "{}")


def _last(places: Iterable[tuple[int, str]]) -> str:
    """The letter that stands last; a place below zero is none."""
    place, letter = max(places, default=(-1, ""))
    return letter if place >= 0 else ""


def option_letter(text: str, letters: str = "ABCD") -> str:
    """The capital that an answer chooses, or "" when there is none.

    In this order: a letter that begins the text and is no word's first, one that ends it and is no word's last, one
    after a phrase such as "the answer is", then "(A)", "A.", "A:", "A)", "A " and at last the letter anywhere. Of
    several found in the same way the last one counts; after a phrase each letter's first place does.
    """
    trimmed = text.strip()
    for mark in _TRIMMED:
        trimmed = trimmed.strip(mark)
    inner, padded = trimmed.strip(), f" {trimmed} "
    if inner and inner[0] in letters and not inner[1:2].isalpha():
        return inner[0]
    if inner and inner[-1] in letters and not inner[-2:-1].isalpha():
        return inner[-1]
    lower = padded.lower()
    starts = [lower.find(phrase) + len(phrase) for phrase in _PHRASES if phrase in lower]
    if found := _last((padded.find(letter, start), letter) for start in starts for letter in letters):
        return found
    for form in _FORMS:
        if found := _last((padded.rfind(form.format(letter)), letter) for letter in letters):
            return found
    return ""
