"""Writes a stage: the whole tensors of all that was trained so far, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import Trainer

from lmmcl.adapters.fold import as_lineage
from lmmcl.agreement import agreed
from lmmcl.data.task import Task
from lmmcl.model import ContinualLMM
from lmmcl.position import Stage
from lmmcl.run.run_folder import RunFolder
from lmmcl.weights import whole


def write_stage(
    run: RunFolder, trainer: Trainer, module: ContinualLMM, stage: Stage, sums: Mapping[str, str]
) -> None:
    """Writes the model as it stands; collective, and on disk when it returns.

    Args:
        run: the run folder.
        trainer: whose fit is running.
        module: the model between two tasks.
        stage: which stage it is.
        sums: checksum of every parameter.
    """
    learned = module.data.tasks[: stage.index]
    names = sorted({name for task in learned for name in module.trained_by(task)})
    tensors = {}
    for name, parameter in module.parameters_by_name(names).items():
        value = whole(parameter)
        if trainer.is_global_zero:
            tensors[name] = value.cpu()
    with agreed():
        if trainer.is_global_zero:
            lineage = {
                "base": module.hparams["path"],
                "checksums": sums,
                "index": stage.index,
                "recipe": None if stage.task is None else module.recipe_of(stage.task).spec,
                "rows": 0 if stage.task is None else len(module.data.train_rows(stage.index - 1)),
                "tasks": [task.name for task in learned],
                "weights": stage.weights,
                "without_gradient": module.without_gradient,
                **_adapters(module, learned),
            }
            run.write_stage(stage.folder, tensors, lineage)


def _adapters(module: ContinualLMM, learned: Sequence[Task]) -> dict[str, Any]:
    """What the lineage says of adapters."""
    folds = [fold for m in module.mitigations for task in learned for fold in m.folds(module, task)]
    reasons = [reason for m in module.mitigations if learned and (reason := m.not_plain())]
    added = module.parameters_by_name().keys() - module.anatomy.numel.keys()
    return as_lineage(folds, added, reasons[0] if reasons else None)
