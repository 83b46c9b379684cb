"""The time that is left: steps at their pace, and measurements as long as the last one took."""

import pytest

from lmmcl.report.clock import SequenceClock, clock_text


def test_nothing_is_known_before_the_first_step() -> None:
    clock = SequenceClock([10, 20])
    assert clock.left(0, 0, 0.0) is None
    clock.measuring(0.0)
    assert clock.left(0, 0, 1.0) is None


def test_a_task_under_way_leaves_its_steps_the_later_tasks_and_their_measurements() -> None:
    clock = SequenceClock([10, 20])
    clock.measuring(0.0)
    clock.measured(6.0)
    for _ in range(4):
        clock.stepped(0.5)
    assert clock.left(1, 4, 8.0) == pytest.approx((6 + 20) * 0.5 + 2 * 6.0)
    assert clock.left(2, 20, 8.0) == pytest.approx(6.0)


def test_a_measurement_under_way_leaves_its_rest() -> None:
    clock = SequenceClock([10, 20])
    clock.measuring(0.0)
    clock.measured(6.0)
    clock.stepped(0.5)
    clock.measuring(20.0)
    assert clock.left(1, 10, 24.0) == pytest.approx(2.0 + 20 * 0.5 + 6.0)
    assert clock.left(2, 20, 30.0) == 0.0


def test_a_slow_first_step_does_not_spoil_the_estimate() -> None:
    clock = SequenceClock([100])
    for seconds in (30.0, 0.1, 0.1):
        clock.stepped(seconds)
    assert clock.left(1, 3, 0.0) == pytest.approx(97 * 0.1)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0:00"), (71.6, "1:12"), (3600, "1:00:00"), (7425, "2:03:45")]
)
def test_times_read_as_on_a_clock(seconds: float, text: str) -> None:
    assert clock_text(seconds) == text


def test_a_measurement_inside_a_task_does_not_slow_the_pace() -> None:
    clock = SequenceClock([100])
    for seconds in (0.1, 0.1):
        clock.stepped(seconds)
    clock.measuring(0.0)
    clock.stepped(60.0)
    clock.stepped(0.1)
    assert clock.left(1, 4, 0.0) == pytest.approx(96 * 0.1)
