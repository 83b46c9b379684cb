"""The normal form of free answers: case, punctuation, articles and lead-ins do not matter."""

import re
import unicodedata

from lmmcl.scorers.numbers import SMALL_NUMBERS

ARTICLES = frozenset({"a", "an", "the"})
_LEAD_IN = re.compile(
    r"^\W*(?:the\s+)?(?:(?:correct|final|right|best)\s+)?answer\s*(?:is\b|:|=)\s*:?\s*(?=\S)", re.IGNORECASE
)
_APOSTROPHES = str.maketrans("", "", "'’`")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
# A minus sign, not a hyphen: before a number, and behind no word, number, bracket or unit ("5-3", "10%-12%").
_SIGN = r"(?<![^\W_])(?<![%)\].°])-"
_SIGN_BEFORE_CURRENCY = re.compile(rf"{_SIGN}([$€£¥])(?=\.?\d)")
_KEPT = re.compile(rf"(?:{_SIGN}(?=\.?\d))?(?:(?<![\d.])\.\d+|[^\W_]+(?:\.\d+)?)|%")
_BARE_POINT = re.compile(r"^-?(?=\.)")


def without_lead_in(text: str) -> str:
    """The answer itself: Unicode-normalised (NFKC), stripped, without an opening such as "The answer is"."""
    return _LEAD_IN.sub("", unicodedata.normalize("NFKC", text).replace("’", "'")).strip()


def tokens(text: str) -> list[str]:
    """The words of an answer in normal form.

    Lower case, no punctuation but a decimal point and the minus sign of a number, no thousands separator, number words
    up to twelve as digits, and no articles (unless articles are all there is: "A" is an answer).
    """
    plain = _THOUSANDS.sub("", without_lead_in(text).casefold().translate(_APOSTROPHES)).replace("−", "-")
    found = _KEPT.findall(_SIGN_BEFORE_CURRENCY.sub(r"\1-", plain))
    words = [_BARE_POINT.sub(r"\g<0>0", str(SMALL_NUMBERS.get(word, word))) for word in found]
    return [word for word in words if word not in ARTICLES] or words


def normalise(text: str) -> str:
    """The normal form of an answer as one string; empty when nothing readable is left."""
    return " ".join(tokens(text))
