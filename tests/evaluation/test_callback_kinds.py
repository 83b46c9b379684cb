"""Mitigations are told from probes by their classes."""

import sys
from types import ModuleType

import pytest

from lmmcl import callbacks
from lmmcl.evaluation.callback_kinds import is_mitigation
from lmmcl.mitigation import Mitigation, StageCallback


def path_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


@pytest.mark.parametrize("name", callbacks.__all__)
def test_every_callback_of_the_package_is_told_by_its_class(name: str) -> None:
    kind = getattr(callbacks, name)
    assert is_mitigation(path_of(kind)) == issubclass(kind, Mitigation)


def test_those_that_only_look() -> None:
    looks = {name for name in callbacks.__all__ if not is_mitigation(path_of(getattr(callbacks, name)))}
    assert {"HeldOutEvaluation", "WeightDrift", "OutputShift", "SampledAnswers"} <= looks
    assert not {"LwF", "WiSEFT", "DataMix", "LoRA", "ForgettingBudget"} & looks


def test_another_packages_callback_is_asked_where_it_is_loaded_and_never_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theirs = ModuleType("theirs_loaded")
    theirs.Looks = type("Looks", (StageCallback,), {})  # type: ignore[attr-defined]  # a module made here
    monkeypatch.setitem(sys.modules, "theirs_loaded", theirs)
    assert not is_mitigation("theirs_loaded.Looks")
    assert "antigravity" not in sys.modules
    assert is_mitigation("antigravity.Fights") and is_mitigation("lmmcl.callbacks.gone.Gone")
    assert "antigravity" not in sys.modules
