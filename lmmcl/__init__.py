"""Teach a large multimodal model new skills one after the other without losing the old ones, and measure both."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmmcl.data.datamodule import TaskSequenceDataModule
    from lmmcl.data.task import Task
    from lmmcl.mitigation import Mitigation, StageCallback
    from lmmcl.model import ContinualLMM

__all__ = ["ContinualLMM", "Mitigation", "StageCallback", "Task", "TaskSequenceDataModule"]
__version__ = "0.1.0"

_HOMES = {
    "ContinualLMM": "lmmcl.model",
    "Mitigation": "lmmcl.mitigation",
    "StageCallback": "lmmcl.mitigation",
    "Task": "lmmcl.data.task",
    "TaskSequenceDataModule": "lmmcl.data.datamodule",
}


def __getattr__(name: str) -> Any:
    # Late, so that `lmmcl --help` does not wait for torch.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
