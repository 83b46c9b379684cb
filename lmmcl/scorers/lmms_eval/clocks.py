"""The clocks as the study scores them: the hour, the minute within one, and both."""

import re
from collections.abc import Mapping
from typing import Any

from lmmcl.scorers.lmms_eval.number_words import whole
from lmmcl.scorers.lmms_eval.prediction import stripped
from lmmcl.scorers.score import Score

_TIME = re.compile(r"(\d{1,2}):(\d{1,2})")


def _time(text: str) -> tuple[int, int] | None:
    """Hour and minute as they are written; 27:80 is a time."""
    plain = text.replace(".", "")
    written = _TIME.search(plain)
    hour, minute = map(whole, written.groups() if written else (*re.findall(r"\d+", plain), "", "")[:2])
    return None if hour is None or minute is None else (hour, minute)


def time_clock(prediction: str, gold: Any, meta: Mapping[str, Any]) -> Score:
    """1 when the hour is equal and the minute within 1 or exactly 59 off, with a part for each.

    Full stops are deleted, then the first ``H:MM`` counts, else the first two integers: "3.05" is no time. The hour
    is not carried, and 15:05 is not 3:05.

    Args:
        prediction: the model's answer.
        gold: the time as ``H:MM``.
        meta: not used.

    Returns:
        A score of 0 or 1 with the parts ``hour``, ``minute`` and ``both``; unreadable when there is no time, and with
        more digits than Python reads (4,300; the original ends in an exception).
    """
    said, wanted = _time(stripped(prediction)), _time(str(gold))
    hour = minute = False
    if said is not None and wanted is not None:
        hour = said[0] == wanted[0]
        minute = abs(said[1] - wanted[1]) in (0, 1, 59)
    both = float(hour and minute)
    return Score(both, said is not None, {"hour": float(hour), "minute": float(minute), "both": both})


def coco_clock(prediction: str, gold: Any, meta: Mapping[str, Any]) -> Score:
    """The same as `time_clock`."""
    return time_clock(prediction, gold, meta)


def openimg_clock(prediction: str, gold: Any, meta: Mapping[str, Any]) -> Score:
    """The same as `time_clock`."""
    return time_clock(prediction, gold, meta)
