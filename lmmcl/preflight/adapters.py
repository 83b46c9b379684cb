"""What a run trains when a mitigation puts adapters into the model, before there is a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import torch
from torch import nn

from lmmcl.adapters.experts import Mixture
from lmmcl.data.datamodule import TaskSequenceDataModule
from lmmcl.mitigation import Mitigation
from lmmcl.model import ContinualLMM
from lmmcl.structure.anatomy import Anatomy
from lmmcl.structure.recipe_table import base_group
from lmmcl.weights import parameters_of


class Adapted:
    """A model changed in place as the run will change its own.

    Attributes:
        anatomy: of the model with what was added to it.
        trained: what each task trains, in order, parameter to group. An adapter counts with the group that it lies on,
            whose inputs it needs as the group itself would.
        mlps: MLPs of a decoder layer that every token goes through, at most.

    Args:
        module: not built.
        data: the tasks, whose recipes fit the model.
        model: with its values or without.
        anatomy: of the model as it was.
        mitigations: of the run, in the order listed.

    Raises:
        UserError: a recipe chooses what cannot be adapted.
    """

    def __init__(
        self,
        module: ContinualLMM,
        data: TaskSequenceDataModule,
        model: nn.Module,
        anatomy: Anatomy,
        mitigations: Sequence[Mitigation],
    ) -> None:
        # What adapters ask of a module that is built and has a trainer, which this one has not.
        plan = SimpleNamespace(
            data=data,
            anatomy=anatomy,
            hparams=module.hparams,
            recipe_of=module.recipe_of,
            device=torch.device("cpu"),
            parameters_by_name=lambda names: {n: p for n, p in parameters_of(model).items() if n in names},
            sequence=SimpleNamespace(report_notice=lambda line: None),
        )
        self._mitigations, self._plan = mitigations, plan
        for mitigation in mitigations:
            mitigation.adapt(self._module, model)
        self.trained: list[dict[str, str]] = []
        for task in data.tasks:
            trained: Mapping[str, str] = module.recipe_of(task).resolve(anatomy)
            for mitigation in mitigations:
                trained = mitigation.trains(self._module, task, trained)
            self.trained.append({name: base_group(group, anatomy) for name, group in trained.items()})
        groups = {name: anatomy.group_of(name) for name in anatomy.numel}
        for names in self.trained:
            groups |= names
        numel = {name: parameter.numel() for name, parameter in parameters_of(model).items()}
        self.added = sum(count for name, count in numel.items() if name not in anatomy.numel)
        self.mlps = 2 if any(isinstance(part, Mixture) for part in model.modules()) else 1
        self.anatomy = replace(anatomy, numel=numel, _group_of=groups)

    @property
    def _module(self) -> ContinualLMM:
        return cast(ContinualLMM, self._plan)

    def arrange(self, stage: int, device: torch.device) -> None:
        """Makes the adapters of a stage's task those that train, on a model that has its values."""
        self._plan.device = device
        for mitigation in self._mitigations:
            mitigation.arrange(self._module, stage, ended=False)
