"""Signals are caught where they can be, and where they cannot it is said."""

import signal
import warnings
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest

from lmmcl.parallel.stopping import STOPS, StopSignal

TRAINER: Any = SimpleNamespace(is_global_zero=True, strategy=SimpleNamespace(launcher=None))


def test_outside_of_the_main_thread_a_fit_runs_and_says_once_that_nothing_catches_the_signals() -> None:
    stop, said = StopSignal(), list[str]()

    def fit() -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            stop.catch(TRAINER)
            stop.catch(TRAINER)
            stop.release()
        said.extend(str(one.message) for one in caught)

    before = [signal.getsignal(number) for number in STOPS]
    thread = Thread(target=fit)
    thread.start()
    thread.join()
    assert len(said) == 1 and "outside of the main thread" in said[0] and "--ckpt_path last" in said[0]
    assert [signal.getsignal(number) for number in STOPS] == before


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_is_noted_and_then_given_back(number: int) -> None:
    stop, before = StopSignal(), [signal.getsignal(number) for number in STOPS]
    stop.catch(TRAINER)
    signal.raise_signal(number)
    assert stop.requested
    stop.release()
    assert [signal.getsignal(number) for number in STOPS] == before
