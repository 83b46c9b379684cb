"""LightningCLI with the keys of a sequence: ``model``, ``data``, ``trainer``, ``run`` and ``seed``."""

from __future__ import annotations

from argparse import ArgumentError
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from typing_extensions import override

import lmmcl.callbacks
from lmmcl.callbacks import HeldOutEvaluation
from lmmcl.cli.help import SequenceParser
from lmmcl.cli.mistakes import explain, user_error_in
from lmmcl.cli.quiet import quiet_libraries
from lmmcl.cli.run_record import RunRecord
from lmmcl.cli.trainer_settings import check_settings, refusal
from lmmcl.cli.yaml_files import check_files
from lmmcl.data.datamodule import TaskSequenceDataModule
from lmmcl.errors import UserError
from lmmcl.model import ContinualLMM
from lmmcl.redaction import MARK
from lmmcl.report.news import SequenceNews
from lmmcl.report.progress import SequenceProgress

DEFAULTS: dict[str, Any] = {
    "devices": 1,
    "precision": "bf16-mixed",
    "gradient_clip_val": 1.0,
    "logger": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
    "log_every_n_steps": 1,
}
"""Where ours differ from Lightning's: the engine writes log and checkpoints itself."""


class SequenceCLI(LightningCLI):
    """Reads a config and makes model, data and trainer of it; the commands run them.

    Args:
        arguments: words of the command line after the command.
        usage: the command and what it takes, for ``--help``.
    """

    model: ContinualLMM
    datamodule: TaskSequenceDataModule
    trainer: Trainer

    def __init__(self, arguments: Sequence[str], usage: str) -> None:
        super().__init__(
            ContinualLMM,
            TaskSequenceDataModule,
            save_config_callback=None,
            trainer_defaults=DEFAULTS,
            parser_class=SequenceParser,
            parser_kwargs={
                "prog": " ".join(usage.split()[:2]),
                "usage": usage,
                "description": "Every key of the YAML is an option, too: --model.lr 1e-5.",
                "exit_on_error": False,
                "allow_abbrev": False,
            },
            args=list(arguments),
            run=False,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    @override
    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--run", type=str, default="runs/lmmcl", help="Folder of the run.")
        parser.add_argument("--seed", type=int, default=0, help="Of everything random.")
        parser.add_argument(
            "--ckpt_path",
            type=Literal["last"] | None,
            default=None,
            help="last: go on with the run in its folder.",
        )

    @override
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments("run", "model.run")
        parser.link_arguments("seed", "model.seed")
        parser.link_arguments("seed", "data.seed")
        parser.link_arguments("ckpt_path", "model.resume", compute_fn=lambda path: path is not None)

    @override
    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        keys = list(parser.get_defaults().keys())
        try:
            self.config = parser.parse_args(args)
            self.config["run"] = str(Path(self.config["run"]).expanduser())
            _refuse_redacted(self.config.as_dict())
            _refuse_single(self.config["trainer"]["callbacks"])
            check_files([Path(str(path)) for path in self.config["config"] or []])
        except (ArgumentError, ValueError, TypeError) as error:
            raise self._explained(error, keys) from error

    @override
    def instantiate_classes(self) -> None:
        try:
            # Lightning's own calls jsonargparse by a name that will be removed.
            self.config_init = self.parser.instantiate(self.config)
            self.datamodule = self.config_init["data"]
            self.model = self.config_init["model"]
            self.trainer = self.instantiate_trainer()
        except (ArgumentError, ValueError) as error:
            raise self._explained(error, []) from error

    @staticmethod
    def _explained(error: Exception, keys: Sequence[str]) -> UserError:
        callbacks = [getattr(lmmcl.callbacks, name) for name in lmmcl.callbacks.__all__]
        return user_error_in(error) or UserError(explain(str(error), keys, callbacks))

    def _resolved(self) -> str:
        """The whole YAML that this run was started with, defaults included."""
        config = self.config.clone()
        config["ckpt_path"] = None
        config.pop("config", None)
        text: str = self.parser.dump(config, skip_unset=False)
        return text

    @override
    def _set_seed(self) -> None:
        """Nothing: every draw of the engine is counter-based, from the seed it is given."""

    @override
    def before_instantiate_classes(self) -> None:
        quiet_libraries()

    @override
    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        callbacks = list(self.config_init["trainer"]["callbacks"] or [])
        if not any(isinstance(callback, HeldOutEvaluation) for callback in callbacks):
            callbacks.insert(0, HeldOutEvaluation())
        shown = self.config_init["trainer"]["enable_progress_bar"] is not False
        if shown and not any(isinstance(callback, ProgressBar) for callback in callbacks):
            callbacks.append(SequenceProgress())
        elif not any(isinstance(callback, SequenceNews) for callback in callbacks):
            callbacks.append(SequenceNews())
        callbacks.append(RunRecord(self._resolved(), Path(self.config["run"])))
        check_settings(self.config_init["trainer"])
        options: dict[str, Any] = {"callbacks": callbacks, **kwargs}
        if self.config_init["trainer"]["default_root_dir"] is None:
            options["default_root_dir"] = self.config[
                "run"
            ]  # other loggers' files, never the working directory
        try:
            return super().instantiate_trainer(**options)
        except UserError:
            raise
        except (MisconfigurationException, ValueError, TypeError) as error:
            raise refusal(error, self.config_init["trainer"]) from error


def _refuse_single(callbacks: Any) -> None:
    """Lightning's type takes one callback outside a list, too; the sequence adds its own to a list."""
    if callbacks is not None and not isinstance(callbacks, list):
        name = callbacks["class_path"].rpartition(".")[2]
        raise UserError(f"trainer.callbacks must be a list, got {name!r}; write [{name}].")


def _refuse_redacted(given: Any, key: str = "") -> None:
    """What a run's own YAML does not tell would be built as if it were the value."""
    if isinstance(given, Mapping):
        for name, inner in given.items():
            _refuse_redacted(inner, f"{key}.{name}".lstrip("."))
    elif isinstance(given, list | tuple):
        for place, inner in enumerate(given):
            _refuse_redacted(inner, f"{key}.{place}")
    elif isinstance(given, str) and MARK in given:
        raise UserError(
            f"{key} holds {MARK}, as the YAML in a run's folder tells no secret: give the value again, in a YAML of "
            "your own or as an option behind it, or leave it to the environment."
        )
