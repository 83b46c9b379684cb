"""LightningCLI with the keys of a sequence: ``model``, ``data``, ``trainer``, ``run`` and ``seed``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from typing_extensions import override

import lmmcl.callbacks
from lmmcl.callbacks import HeldOutEvaluation
from lmmcl.cli.quiet import quiet_transformers
from lmmcl.data.datamodule import TaskSequenceDataModule
from lmmcl.errors import UserError
from lmmcl.model import ContinualLMM

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
        command: named in ``--help``.
    """

    model: ContinualLMM
    datamodule: TaskSequenceDataModule
    trainer: Trainer

    def __init__(self, arguments: Sequence[str], command: str) -> None:
        super().__init__(
            ContinualLMM,
            TaskSequenceDataModule,
            save_config_callback=None,
            trainer_defaults=DEFAULTS,
            parser_kwargs={"prog": command, "exit_on_error": False, "description": "Keys of the YAML are options too."},
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
            "--ckpt_path", type=Literal["last"] | None, default=None, help="last: go on with the run in its folder."
        )

    @override
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments("run", "model.run")
        parser.link_arguments("seed", "model.seed")
        parser.link_arguments("seed", "data.seed")
        parser.link_arguments("ckpt_path", "model.resume", compute_fn=lambda path: path is not None)

    @override
    def _set_seed(self) -> None:
        """Nothing: every draw of the engine is counter-based, from the seed it is given."""

    @override
    def before_instantiate_classes(self) -> None:
        quiet_transformers()

    @override
    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        callbacks = list(self.config_init["trainer"]["callbacks"] or [])
        if not any(isinstance(callback, HeldOutEvaluation) for callback in callbacks):
            callbacks.insert(0, HeldOutEvaluation())
        try:
            return super().instantiate_trainer(callbacks=callbacks, default_root_dir=self.config["run"], **kwargs)
        except (MisconfigurationException, ValueError) as error:
            raise UserError(f"trainer: {' '.join(str(error).split())}") from error
