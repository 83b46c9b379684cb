"""Puts the weights of a written stage into a model that is to be measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.nn import Parameter
from typing_extensions import override

from lmmcl.adapters.fold import PlainReader, folds_of
from lmmcl.errors import UserError
from lmmcl.evaluation.matrix import Matrix
from lmmcl.evaluation.matrix import Stage as Row
from lmmcl.model import ContinualLMM
from lmmcl.position import Position
from lmmcl.run.run_folder import RunFolder
from lmmcl.sequence.decisive import decisive_config
from lmmcl.sequence.resume import BASE
from lmmcl.weights import checksums, write_whole_


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
        parameters = pl_module.parameters_by_name()
        derived = self._read(pl_module, parameters, lineage)
        same = self._same_precision(str(trainer.precision))
        now = checksums(parameters)
        held = self.run.stage_reader(self.stage).keys()
        wrong = [
            name
            for name, value in lineage["checksums"].items()
            if name not in derived and now.get(name) != value and (same or name in held)
        ]
        self._refuse(wrong)
        pl_module.sequence.position = Position(stage=int(lineage["index"]))
        pl_module.sequence.matrix.stages = self._earlier(pl_module, int(lineage["index"]))

    def _read(
        self, module: ContinualLMM, parameters: Mapping[str, Parameter], lineage: Mapping[str, Any]
    ) -> set[str]:
        """Puts the stage into the model, whether it has the run's adapters or is plain.

        Returns:
            Names whose values follow from others, which are proven instead, or which the model need not have.
        """
        reader = self.run.stage_reader(self.stage)
        adapters, folds = set(lineage.get("adapters", [])), folds_of({**lineage, "not_plain": None})
        adapted = adapters <= parameters.keys()
        plain = None if adapted else PlainReader(reader, lineage, parameters)
        unknown = sorted((plain or reader).keys() - parameters.keys())
        if unknown:
            raise UserError(
                f"model.path: {self.run.stage(self.stage)} is no stage of this model: it has {unknown[0]}."
            )
        if folds and self._same_precision(str(module.trainer.precision)):
            base, now = self.run.checksums(BASE), checksums({name: parameters[name] for name in folds})
            self._refuse([name for name in folds if now[name] != base[name]])
        if plain is None:
            for name in sorted(reader.keys()):
                reader.read_into(name, parameters[name])
            module.arrange(int(lineage["index"]), ended=True)
            return set(folds)
        for name in sorted(plain.keys()):
            write_whole_(parameters[name], plain.read(name))
        return set(folds) | adapters

    def _refuse(self, wrong: Sequence[str]) -> None:
        if wrong:
            raise UserError(
                f"model.path, model.recipe, data.tasks: with these the model is not that of {self.stage}: {len(wrong)} "
                f"tensors differ, for example {wrong[0]}. Take them from {self.run.path}."
            )

    def _same_precision(self, precision: str) -> bool:
        """In another precision the frozen tensors have another dtype, and so another checksum."""
        held: str = json.loads(self.run.config.read_bytes())["precision"]
        return held == precision

    def _earlier(self, module: ContinualLMM, index: int) -> list[Row]:
        """The run's rows of the stages before, with the tasks that were measured on the same rows in the same way."""
        if not self.run.matrix.exists():
            return []
        before, now = json.loads(self.run.config.read_bytes()), decisive_config(module)
        then = _measured(before)
        same = {name for name, how in _measured(now).items() if then.get(name) == how}
        return [
            replace(row, cells={name: cell for name, cell in row.cells.items() if name in same})
            for row in Matrix.load(self.run.matrix).finals
            if row.index < index
        ]


def _measured(config: Mapping[str, Any]) -> dict[str, list[Any]]:
    """By task: what its score depends on besides the weights, the part of the rows among it."""
    data = config["data"]
    parts = [settings["part"] for _, settings in config["callbacks"] if "part" in settings]
    return {
        task["name"]: [
            parts,
            data["max_eval_samples"],
            *(task[key] for key in ("rows", "scorer", "max_new_tokens")),
        ]
        for task in (*data["tasks"], *data["held_out"])
    }
