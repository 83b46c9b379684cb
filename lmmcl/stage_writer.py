"""Writes a stage: the whole tensors of all that was trained so far, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping

from lightning.pytorch import Trainer

from lmmcl.agreement import agreed
from lmmcl.model import ContinualLMM
from lmmcl.position import Stage
from lmmcl.run_folder import RunFolder


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
    names = sorted({name for task in learned for name in module.recipe_of(task).resolve(module.anatomy)})
    whole = {}
    for name, parameter in module.parameters_by_name(names).items():
        value = parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter.detach()
        if trainer.is_global_zero:
            whole[name] = value.detach().cpu()
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
            }
            run.write_stage(stage.folder, whole, lineage)
