"""Puts the weights of a written stage into a model that is to be measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from typing_extensions import override

from lmmcl.errors import UserError
from lmmcl.evaluation.matrix import Matrix
from lmmcl.evaluation.matrix import Stage as Row
from lmmcl.model import ContinualLMM
from lmmcl.position import Position
from lmmcl.run_folder import RunFolder
from lmmcl.weights import checksums


class StageWeights(Callback):
    """``Trainer(callbacks=[HeldOutEvaluation(), StageWeights(run, 2)]).validate(module, data)`` measures stage 2 again.

    Args:
        run: folder of the run.
        stage: its number, 0 for the base model; None: the last one.

    Raises:
        UserError: the run has no such stage.
    """

    def __init__(self, run: str | Path, stage: int | None = None) -> None:
        self.run = RunFolder(Path(run))
        self.stage = self.run.find_stage(stage)

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, ContinualLMM)
        lineage = self.run.lineage(self.stage)
        reader = self.run.stage_reader(self.stage)
        parameters = pl_module.parameters_by_name()
        unknown = sorted(reader.keys() - parameters.keys())
        if unknown:
            raise UserError(
                f"model.path: {self.run.stage(self.stage)} is no stage of this model: it has {unknown[0]}."
            )
        for name in sorted(reader.keys()):
            reader.read_into(name, parameters[name])
        # In another precision the frozen tensors have another dtype, and so another checksum.
        same = json.loads(self.run.config.read_bytes())["precision"] == str(trainer.precision)
        now = checksums(dict(parameters))
        wrong = [
            n for n, value in lineage["checksums"].items() if now[n] != value and (same or n in reader.keys())
        ]
        if wrong:
            raise UserError(
                f"model.path, model.recipe, data.tasks: with these the model is not that of {self.stage}: {len(wrong)} "
                f"tensors differ, for example {wrong[0]}. Take them from {self.run.path}."
            )
        pl_module.sequence.position = Position(stage=int(lineage["index"]))
        pl_module.sequence.matrix.stages = self._earlier(pl_module, int(lineage["index"]))

    def _earlier(self, module: ContinualLMM, index: int) -> list[Row]:
        """The run's rows of the stages before, with the tasks that were measured on the same rows in the same way."""
        if not self.run.matrix.exists():
            return []
        then = _measured(json.loads(self.run.config.read_bytes())["data"])
        same = {name for name, how in _measured(module.data.fingerprint()).items() if then.get(name) == how}
        return [
            replace(row, cells={name: cell for name, cell in row.cells.items() if name in same})
            for row in Matrix.load(self.run.matrix).finals
            if row.index < index
        ]


def _measured(data: Mapping[str, Any]) -> dict[str, list[Any]]:
    """By task: what its score depends on besides the weights."""
    return {
        task["name"]: [data["max_eval_samples"], *(task[key] for key in ("rows", "scorer", "max_new_tokens"))]
        for task in (*data["tasks"], *data["held_out"])
    }
