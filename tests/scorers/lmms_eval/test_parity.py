"""Where lmms-eval itself is installed: the same scores as the real one."""

import pytest

from tests.benchmarks.lmms_eval_parity import TASKS, compare, missing


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("task", TASKS)
def test_no_prediction_is_scored_otherwise_than_by_lmms_eval(task: str) -> None:
    if reason := missing():
        pytest.skip(reason)
    number, _, different = compare(task, 1000)
    assert number == 1000 and not different
