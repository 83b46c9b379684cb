"""Multiple choice: the prediction names the letter of the right option, or its text."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from lmmcl.errors import UserError
from lmmcl.scorers.category import by_category
from lmmcl.scorers.normalise import normalise, without_lead_in
from lmmcl.scorers.score import Score

_EXPLICIT = re.compile(
    r"\b(?:answer|option|choice|letter)(?:\s+(?:is|would\s+be|should\s+be))?\s*[:=]?\s*(?:option\s+|letter\s+)?"
    r"[\"'(\[*]*(?P<letter>[A-Z])(?![\w'])",
    re.IGNORECASE,
)
_LEADING = re.compile(
    r"^[\s\"'(\[*]*(?P<letter>[A-Z])[\"'*]*(?:[.):\],;\-–—]|\s(?=because\b|since\b))(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_ALONE = re.compile(r"\W*([A-Za-z])\W*")
_BRACKETED = re.compile(r"[(\[]\s*([A-Z])\s*[)\]]", re.IGNORECASE)
_CAPITAL = re.compile(r"(?<![\w'])([A-Z])(?![\w'])")
_LAST_LOWER = re.compile(r"(?:\bis|'s|\bbe|\bchoose|\bpick)\s+[\"'*]*([a-z])[\"'*]*[.!]?$")
_ONE = r"(?:\b(?:option|letter|choice|answer)\s+)?(?<!\w)(?<!\w')[\"'(\[*]*[A-Z](?!\w|'\w)[\"')\]*]*"
_SOME = rf"(?:the\s+)?{_ONE}(?:\s+(?:and|or|nor)\s+{_ONE})*"
# "not B", "can't be B", "neither A nor B"; "B is wrong", "A and B are not right", but not "B is not wrong".
_DENIED = re.compile(
    rf"(?:\b(?:not|cannot|neither|nor)|n't)\s+(?:(?:be|choose|pick)\s+)?{_SOME}"
    rf"|{_SOME}\s+(?:(?:is|are|was|were)\s+(?:\w+ly\s+|also\s+)?(?:wrong|incorrect)\b"
    r"|(?:cannot|(?:is|are|was|were|can)(?:n't|\s+not)|can't)\b(?!\s+(?:wrong|incorrect|only)\b))",
    re.IGNORECASE,
)
# "A cat", "I see": an article and a pronoun; "A or B", "A is right": letters.
_NO_LETTER_BEFORE = re.compile(r" (?!(?:or|and|is|was)\b)[A-Za-z]")


def _allowed(options: Sequence[Any] | Mapping[str, Any] | None) -> dict[str, str]:
    """Letter -> normalised text of every option ("" where no texts are known); a gap of a table is no option."""
    if not options:
        return dict.fromkeys(ascii_uppercase, "")
    if isinstance(options, str):  # each of its letters would be an option
        raise UserError(
            f"scorer letter: options must be a list of texts, or a mapping from letter to text, got the text "
            f'{options[:60]!r}; write it as JSON, ["red", "blue"], or name another column by columns: {{options: '
            "...}."
        )
    if isinstance(options, Mapping):
        texts = {str(letter).upper(): text for letter, text in options.items()}
    else:
        texts = dict(zip(ascii_uppercase, options, strict=False))
    return {letter: normalise(str(text)) for letter, text in texts.items() if text is not None}


def _is_a_word(letter: str, text: str, end: int) -> bool:
    """Whether the letter that ends at ``end`` is the article "a" or the pronoun "I" of a sentence."""
    return letter in "aAI" and _NO_LETTER_BEFORE.match(text, end) is not None


def _explicit(answer: str) -> str | None:
    """The letter of the last "answer: B", unless it is an article or a pronoun ("the answer is a cat")."""
    found = None
    for match in _EXPLICIT.finditer(answer):
        if not _is_a_word(match["letter"], answer, match.end()):
            found = str(match["letter"]).upper()
    return found


def _first_line(answer: str) -> str | None:
    """The letter that stands alone on the first line, before an explanation; not the first of a list of letters."""
    lines = [line for line in answer.splitlines() if line.strip()]
    alone = [_ALONE.fullmatch(line) for line in lines]
    if len(lines) < 2 or alone[0] is None:
        return None
    return None if any(other and other[1] != alone[0][1] for other in alone) else str(alone[0][1]).upper()


def _leading(answer: str) -> str | None:
    """The letter of "B. foo" or "(b) foo", unless others follow as its equals ("A, C", or all options)."""
    match = _LEADING.match(answer)
    if match is None:
        return None
    letter, rest = str(match["letter"]).upper(), match["rest"]
    equals = re.findall(r"(?:^\s*(?:(?:and|or)\s+)?|\n\s*\(?)([A-Z])(?=[.):,;\s]|$)(?! [a-z])", rest)
    return None if any(other != letter for other in equals) else letter


def _by_text(answer: str, options: Mapping[str, str]) -> str | None:
    """The letter of the one option whose text the answer contains; of nested texts the longest counts."""
    padded = f" {normalise(answer)} "
    found = {letter: text for letter, text in options.items() if text and f" {text} " in padded}
    outer = [
        letter
        for letter, text in found.items()
        if not any(f" {text} " in f" {other} " and other != text for other in found.values())
    ]
    return outer[0] if len(outer) == 1 else None


def _in_passing(answer: str) -> str | None:
    """The one letter that stands alone somewhere in a sentence ("It's B", "I think (b)")."""
    bracketed = {str(letter).upper() for letter in _BRACKETED.findall(answer)}
    if len(bracketed) == 1:
        return bracketed.pop()
    capitals = {
        str(match[1]) for match in _CAPITAL.finditer(answer) if not _is_a_word(match[1], answer, match.end())
    }
    if capitals:
        return capitals.pop() if len(capitals) == 1 else None
    lower = _LAST_LOWER.search(answer)
    return str(lower[1]).upper() if lower else None


def read_letter(text: str, options: Sequence[Any] | Mapping[str, Any] | None = None) -> str | None:
    """The option a text chooses, as a capital letter, or None when it chooses none or several.

    Args:
        text: the answer.
        options: the options' texts in order, or by letter; None allows all letters and knows no texts.
    """
    allowed = _allowed(options)
    whole = unicodedata.normalize("NFKC", text).replace("’", "'").strip()
    answer = without_lead_in(whole) or whole
    alone = _ALONE.fullmatch(answer)
    exact = [letter for letter, option in allowed.items() if option and option == normalise(answer)]
    if alone:
        letter: str | None = alone[1].upper()
    elif len(exact) == 1:
        letter = exact[0]
    else:
        left = _DENIED.sub(" , ", answer)
        letter = (
            _first_line(left)
            or _explicit(_DENIED.sub(" , ", whole))
            or _leading(left)
            or _by_text(answer, allowed)
            or _in_passing(left)
        )
    return letter if letter in allowed else None


def letter(prediction: str, gold: Any, meta: Mapping[str, Any]) -> Score:
    """1 when the prediction chooses the gold option.

    Understood are the letter alone in any case ("b", "(B)", "B."), with the option's text ("B. foo"), in a
    sentence ("It's B", "Answer: B"), and, when ``meta["options"]`` holds the texts, the text of the option
    instead of its letter. The letters of words and contractions ("It's") are never read, and neither are the
    article "A", the pronoun "I" and a letter that is denied ("not B", "B is wrong").

    Args:
        prediction: the model's answer.
        gold: the right option's letter.
        meta: ``options`` (optional): texts in order, or a mapping from letter to text; ``category`` (optional): the
            part that the score is filed under.

    Returns:
        A score of 0 or 1; unreadable when no option or several are chosen.

    Raises:
        UserError: the gold answer is not a letter of the options, or these are one text.
    """
    options = meta.get("options")
    wanted = str(gold).strip().strip("().").upper()
    if wanted not in _allowed(options):
        raise UserError(
            f"scorer letter: the gold answer must be the letter of an option, got {gold!r}; correct the row."
        )
    chosen = read_letter(prediction, options)
    value = float(chosen == wanted)
    return Score(value, parsed=chosen is not None, parts=by_category(value, meta))
