"""Reading a clock: the hour, the minute within one, and both."""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from lmmcl.errors import UserError
from lmmcl.scorers.numbers import UNITS
from lmmcl.scorers.score import Score

_WORD = "|".join(sorted(UNITS, key=len, reverse=True))
_TENS, _ONES = "twenty|thirty|forty|fifty", "one|two|three|four|five|six|seven|eight|nine"
_NUMBER = rf"(?:\d{{1,2}}|(?:{_TENS})[- ](?:{_ONES})|{_WORD})"
_DIGITAL = re.compile(
    r"(?<![\d:.])(?P<hour>\d{1,2})\s?(?::\s?(?P<minute>\d{1,2})|[.h]\s?(?P<two>\d{2}))(?::\d{2})?(?![\d:]|\.\d)",
    re.IGNORECASE,
)
_SPOKEN = re.compile(
    rf"\b(?P<minute>quarter|half|{_NUMBER})(?:\s+minutes?)?\s+(?P<side>past|after|to|before)\s+(?P<hour>{_NUMBER})\b",
    re.IGNORECASE,
)
_LONG = re.compile(
    rf"\b(?:({_NUMBER})\s*hours?\b\W+(?:and\s+)?({_NUMBER})\s*min(?:ute)?s?"
    rf"|hours?(?:\s+is|:)?\s+({_NUMBER})\b\W+(?:and\s+)?minutes?(?:\s+is|:)?\s+({_NUMBER}))\b",
    re.IGNORECASE,
)
_BARE = re.compile(r"\W*(\d{1,2})[\s-]?(\d{2})\W*")
_FULL = re.compile(rf"\b({_NUMBER})\s*(?:o'?\s?clock\b|[ap]\.?m\b)", re.IGNORECASE)

_MINUTES = re.compile(rf"\b{_NUMBER}\s*min(?:ute)?s?\b", re.IGNORECASE)
"""Beside "3 o'clock" they say that it is not the full hour, in a way that is not read."""


def _value(text: str) -> int:
    """The number that up to two words or digits spell."""
    if text.isdigit():
        return int(text)
    return sum(UNITS[word] for word in re.findall("[a-z]+", text.lower()))


def _spoken(match: re.Match[str]) -> tuple[int, int]:
    minute = {"quarter": 15, "half": 30}.get(match["minute"].lower())
    minute = _value(match["minute"]) if minute is None else minute
    hour = _value(match["hour"])
    return (hour, minute) if match["side"].lower() in ("past", "after") else ((hour - 1) % 12, 60 - minute)


def _pair(match: re.Match[str]) -> tuple[str, str]:
    """The two groups of a match that were used."""
    hour, minute = (group for group in match.groups() if group is not None)
    return hour, minute


def read_time(text: str) -> tuple[int, int] | None:
    """The time a text states as (hour 0-11 of the dial, minute 0-59); None when it states none or several.

    Read are "03:05", "3:5", "3.05", "3h05", "3:05 PM", "3:05:40", "ten past three", "half past 3", "quarter to four",
    "3 o'clock", "3 hours 5 minutes", and alone "0305" or "3 05". A time that no clock shows ("14:72") is not one.
    """
    plain = unicodedata.normalize("NFKC", text).replace("’", "'")
    times = [(int(match["hour"]), int(match["minute"] or match["two"])) for match in _DIGITAL.finditer(plain)]
    times = times or [_spoken(match) for match in _SPOKEN.finditer(plain)]
    times = times or [(_value(hour), _value(minute)) for hour, minute in map(_pair, _LONG.finditer(plain))]
    if not _MINUTES.search(plain):
        times = times or [(_value(match[1]), 0) for match in _FULL.finditer(plain)]
    if not times and (bare := _BARE.fullmatch(plain)):
        times = [(int(bare[1]), int(bare[2]))]
    if any(hour > 24 or not 0 <= minute < 60 for hour, minute in times):
        return None
    dial = {(hour % 12, minute) for hour, minute in times}
    return dial.pop() if len(dial) == 1 else None


def clock(prediction: str, gold: Any, meta: Mapping[str, Any]) -> Score:
    """1 when hour and minute are both right, with a part for each.

    The hours are compared on the dial (a face cannot tell 03:00 from 15:00), the minute may be off by one and
    wraps at 60, and the hour is not carried: 09:59 for 10:00 has the right minute and the wrong hour.

    Args:
        prediction: the model's answer.
        gold: the time as ``HH:MM``.
        meta: not used.

    Returns:
        A score of 0 or 1 with the parts ``hour``, ``minute`` and ``both``; unreadable when no time is stated.

    Raises:
        UserError: the gold answer is not a time.
    """
    wanted = read_time(str(gold))
    if wanted is None:
        raise UserError(
            f"scorer clock: the gold answer must be a time as HH:MM, got {gold!r}; "
            "correct the row or its scorer."
        )
    said = read_time(prediction)
    if said is None:
        return Score(0.0, parsed=False, parts={"hour": 0.0, "minute": 0.0, "both": 0.0})
    hour = said[0] == wanted[0]
    minute = (said[1] - wanted[1]) % 60 in (0, 1, 59)
    both = float(hour and minute)
    return Score(both, parts={"hour": float(hour), "minute": float(minute), "both": both})
