"""The study's tasks by name in a YAML."""

from dataclasses import replace

import pytest

from lmmcl.data.parse import parse_task
from lmmcl.tasks import TASKS


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_found_by_its_name(name: str) -> None:
    assert parse_task(name) is TASKS[name]


@pytest.mark.parametrize("name", TASKS)
def test_what_a_yaml_overrides_is_all_that_changes(name: str) -> None:
    assert parse_task({"task": name, "epochs": 2}) == replace(TASKS[name], epochs=2)
