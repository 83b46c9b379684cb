"""Teach a large multimodal model new skills one after the other without losing the old ones, and measure both."""

from lmmcl.data.datamodule import TaskSequenceDataModule
from lmmcl.data.task import Task
from lmmcl.mitigation import Mitigation, StageCallback
from lmmcl.model import ContinualLMM

__all__ = ["ContinualLMM", "Mitigation", "StageCallback", "Task", "TaskSequenceDataModule"]
__version__ = "0.1.0"
