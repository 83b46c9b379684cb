"""A task's values are checked where it is made."""

from typing import Any

import pytest

from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.scorers import exact_match


def test_scorers_of_one_name_are_told_apart_by_their_modules() -> None:
    def other(*args: Any) -> Any: ...

    other.__qualname__ = exact_match.__qualname__
    made = [Task("t", None, scorer) for scorer in (exact_match, other)]  # type: ignore[arg-type]  # no rows here
    assert made[0].scored_by != made[1].scored_by


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "a/b"}, "name .*'a/b'"),
        ({"epochs": 0}, "t.epochs .*got 0"),
        ({"epochs": 1.5}, "t.epochs .*got 1.5"),
        ({"batch_size": True}, "t.batch_size .*got True"),
        ({"max_train_samples": -1}, "t.max_train_samples .*got -1"),
        ({"max_new_tokens": None}, "t.max_new_tokens .*got None"),
        ({"lr": 0.0}, "t.lr .*got 0.0"),
        ({"lr": float("nan")}, "t.lr .*got nan"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_key(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Task(**{"name": "t", "source": None, "scorer": exact_match, **options})
