"""Times are read as times: hour, minute within one, and both."""

import pytest

from lmmcl.errors import UserError
from lmmcl.scorers import clock


def parts(said: str, gold: str = "03:05") -> tuple[float, float, float]:
    score = clock(said, gold, {})
    assert score.value == score.parts["both"]
    return score.parts["hour"], score.parts["minute"], score.parts["both"]


@pytest.mark.parametrize(
    "said",
    [
        "03:05", "3:05", "3:5", "3.05", "3h05", "15:05", "3:05 PM", "It is 03:05.", "The clock shows 3:05",
        "five past three",
        "5 minutes past 3", "3:05:40", "03 : 05", "3:05 (or 15:05)",
        "0305", "3 05", "03-05", "3 hours and 5 minutes", "hour 3, minute 5",
    ],
)  # fmt: skip
def test_every_way_to_say_it_is_right(said: str) -> None:
    assert parts(said) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("said", "gold"),
    [
        ("half past three", "03:30"), ("quarter to four", "03:45"), ("quarter past 3", "03:15"),
        ("3 o'clock", "03:00"),
        ("three o’clock", "03:00"), ("twenty-five to one", "12:35"), ("12:00", "00:00"),
        ("3 pm", "15:00"), ("24:00", "0:00"),
    ],
)  # fmt: skip
def test_spoken_times_are_read(said: str, gold: str) -> None:
    assert parts(said, gold) == (1.0, 1.0, 1.0)


def test_the_minute_may_be_off_by_one_and_wraps() -> None:
    assert parts("3:06") == parts("3:04") == (1.0, 1.0, 1.0)
    assert parts("3:07") == (1.0, 0.0, 0.0)
    assert parts("3:59", "3:00") == (1.0, 1.0, 1.0)
    assert parts("3:00", "3:59") == (1.0, 1.0, 1.0)


def test_the_hour_is_not_carried() -> None:
    assert parts("2:59", "3:00") == (0.0, 1.0, 0.0)


def test_the_parts_are_scored_alone() -> None:
    assert parts("4:05") == (0.0, 1.0, 0.0)
    assert parts("3:30") == (1.0, 0.0, 0.0)
    assert parts("4:30") == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "noon",
        "14:72",
        "25:00",
        "3",
        "between 3:05 and 3:10",
        "ten past",
        "103:05",
        "3 o'clock and 5 minutes",
    ],
)
def test_no_time_or_several_are_unreadable(said: str) -> None:
    score = clock(said, "03:05", {})
    assert not score.parsed
    assert score.value == 0.0 and set(score.parts.values()) == {0.0}


def test_a_gold_answer_that_is_no_time_is_named() -> None:
    with pytest.raises(UserError, match="scorer clock"):
        clock("3:05", "three", {})
