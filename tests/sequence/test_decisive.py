"""Whatever a user's callback keeps in its attributes, the run's config holds what can be compared."""

import json
from enum import Enum
from pathlib import Path
from typing import Any

import torch

from lmmcl.callbacks import HeldOutEvaluation
from lmmcl.mitigation import Mitigation
from lmmcl.run.checkpoint import as_json
from lmmcl.sequence.decisive import _settings


class Kind(Enum):
    A = 1


class Mine(Mitigation):
    def __init__(self, **attributes: Any) -> None:
        super().__init__()
        vars(self).update(attributes)


def settings(**attributes: Any) -> Any:
    return json.loads(as_json(_settings(Mine(**attributes))))[1]


def test_what_json_cannot_hold_is_kept_as_a_text() -> None:
    kept = settings(best=float("-inf"), rows=Path("a/b"), layers={3, 1}, sizes=(1, 2.5), by={1: [Path("c")]})
    expected = {"best": "-inf", "rows": "a/b", "layers": [1, 3], "sizes": [1, 2.5], "by": {"1": ["c"]}}
    assert kept == {"name": "Mine", **expected}


def test_prompts_at_once_may_be_fewer_when_a_run_goes_on() -> None:
    assert _settings(HeldOutEvaluation(batch_size=32)) == _settings(HeldOutEvaluation(batch_size=8))
    assert _settings(HeldOutEvaluation(part="test")) != _settings(HeldOutEvaluation(part="dev"))


def test_paths_that_differ_are_noticed_and_tensors_are_state() -> None:
    assert settings(rows=Path("a")) != settings(rows=Path("b"))
    assert settings(anchor=torch.ones(2), _seen=1) == {"name": "Mine"}
    # What stands in a list without a text of its own is known by its kind alone.
    assert settings(masks=[torch.ones(2)])["masks"] == ["torch.Tensor"]
    assert settings(kinds=[Kind.A])["kinds"] == [f"{__name__}.Kind"]
