"""Makes model, data and trainer of a config each by itself, so that a mistake in one hides none in another."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import instantiate_class
from typing_extensions import override

from lmmcl.callbacks import HeldOutEvaluation, LmmsEval
from lmmcl.cli.quiet import quiet_libraries
from lmmcl.cli.sequence_cli import SequenceCLI
from lmmcl.cli.trainer_settings import DevicesMissingError
from lmmcl.conflicts import check_conflicts
from lmmcl.data.datamodule import TaskSequenceDataModule
from lmmcl.errors import UserError
from lmmcl.mitigation import StageCallback
from lmmcl.model import ContinualLMM
from lmmcl.preflight.finding import Finding
from lmmcl.preflight.tasks import load_tasks
from lmmcl.sequence.trainer_check import check_trainer


class ConfigParts(SequenceCLI):
    """What a config describes, as far as it can be made.

    Args:
        arguments: words of the command line after the command.
        usage: the command and what it takes, for ``--help``.

    Attributes:
        faults: what could not be made, and why.
        lmm: the model without weights; None where its processor or config cannot be read.
        data: all tasks that load; None where no target does.
        runner: the trainer; None where it cannot be made on this machine.
        callbacks: those that could be made.
    """

    @override
    def instantiate_classes(self) -> None:
        quiet_libraries()
        self.faults: list[Finding] = []
        config: dict[str, Any] = self.config.as_dict()
        self.settings: Mapping[str, Any] = config["trainer"]
        self.lmm: ContinualLMM | None = self._tried("model", lambda: ContinualLMM(**config["model"]))
        self.data: TaskSequenceDataModule | None
        self.data, found = load_tasks(config["data"])
        self.faults += found
        self.callbacks: list[Callback] = []
        for entry in config["trainer"]["callbacks"] or []:
            made = self._tried("trainer", lambda entry=entry: instantiated(entry))
            self.callbacks += [] if made is None else [made]
        self.config_init = {
            "trainer": {**instantiated(config["trainer"] | {"callbacks": []}), "callbacks": self.callbacks}
        }
        self.runner: Trainer | None = self._tried("trainer", self.instantiate_trainer)
        if self.runner is not None:
            trainer = self.runner
            self._tried("trainer", lambda: check_trainer(trainer, fitting=True))
        else:
            self._tried("trainer", lambda: check_conflicts(self.callbacks))

    def _tried(self, check: str, make: Any) -> Any:
        """What a function makes; None, and a finding, where it refuses."""
        try:
            return make()
        except (UserError, ImportError, TypeError, ValueError) as error:
            text = " ".join(str(error).split())
            # A trainer for other devices than are here says nothing against the run.
            missing = isinstance(error, DevicesMissingError)
            said = f"{text} Its devices are not here: the trainer is not checked." if missing else text
            self.faults.append(Finding("warning" if missing else "failure", check, "", said))
            return None

    @property
    def stage_callbacks(self) -> list[StageCallback]:
        """The callbacks of the run that hear about stages: mitigations, probes, evaluation."""
        return [callback for callback in self.callbacks if isinstance(callback, StageCallback)]

    def lmms_tasks(self, timed: bool) -> Iterator[Finding]:
        """Whether the tasks of `LmmsEval` load; and, of times, that they do not hold its answers.

        Args:
            timed: whether the run was timed.
        """
        tasks = [] if self.data is None else [*self.data.tasks, *self.data.held_out]
        for callback in self.callbacks:
            if not isinstance(callback, LmmsEval):
                continue
            try:
                with redirect_stdout(sys.stderr):
                    callback.load({task.name for task in tasks})
            except UserError as error:
                yield Finding("failure", "tasks", callback.name, str(error))
            except Exception as error:  # noqa: BLE001 - lmms-eval's tasks are code and data of others
                said = " ".join(f"{type(error).__name__}: {error}".split())
                text = f"LmmsEval.tasks do not load ({said}); correct or remove them."
                yield Finding("failure", "tasks", callback.name, text)
            if timed:
                text = f"the answers of {callback.name} are not counted; expect a longer evaluation"
                yield Finding("warning", "time", "", text)

    @property
    def prompts(self) -> int:
        """Samples of a batch of generation."""
        measuring = [callback for callback in self.callbacks if isinstance(callback, HeldOutEvaluation)]
        return (measuring[0] if measuring else HeldOutEvaluation()).batch_size


def instantiated(value: Any) -> Any:
    """A value of the config in which every ``class_path`` is an object."""
    if isinstance(value, Mapping) and "class_path" in value:
        inner = {key: instantiated(entry) for key, entry in (value.get("init_args") or {}).items()}
        return instantiate_class((), {"class_path": value["class_path"], "init_args": inner})
    if isinstance(value, Mapping):
        return {key: instantiated(entry) for key, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [instantiated(entry) for entry in value]
    return value
