"""Model Tailor: after every task keep few values of its change, and let them make up for the others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from typing_extensions import override

from lmmcl.data.row import Row
from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.merge.layer_inputs import second_moments
from lmmcl.merge.model_tailor import blocks, damped, tailored
from lmmcl.mitigation import ANCHOR, Copy, Mitigation
from lmmcl.model import ContinualLMM
from lmmcl.parallel.tensor_group import write_rows_
from lmmcl.probing.calibration import draw_rows


class ModelTailor(Mitigation):
    """θ ← θ_start + a sparse patch: the most important values of a task's change, adjusted for those left out.

    Zhu et al., 2024, arXiv 2402.12048: a mask of at most 10 % by salience and sensitivity, then a compensation by the
    inverse Hessian. The exact fusion could not be had, so this is a reading: a value's score is the geometric mean of
    its salience |Δ| and its sensitivity |Δ| / √[H⁻¹]_jj, with H = Σ x xᵀ of the layer's inputs on a fixed draw of the
    task's rows (Optimal Brain Surgeon's Hessian of one linear layer); each row of the kept values then takes the values
    whose outputs are nearest to those of the whole change, in closed form. Layers are tailored in the order of the
    model, one block at a time, so that a layer sees the inputs that the patched layers before it give. Trained tensors
    that are no linear layer's matrix keep their most salient values as they are. Along a sequence (a reading, too) the
    change is taken from where the task began, and the next task starts from the result. It costs one copy of what
    trains, Σ x xᵀ of one block at a time, and one forward a row and block.

    Args:
        keep: share of every tensor's values that may differ from before the task, in [0, 1]; 1 is plain fine-tuning,
            bit for bit, 0 leaves the base weights, byte for byte.
        samples: rows to take the layers' inputs from, from 1.
        damping: added to the diagonal of H over its mean, above 0.
        measure_before: also measure the weights before it.
        name: of its rows and state.

    Raises:
        UserError: a value is out of its range.
    """

    def __init__(
        self,
        keep: float = 0.1,
        samples: int = 128,
        damping: float = 0.01,
        measure_before: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        if not 0 <= keep <= 1:
            raise UserError(f"trainer.callbacks: ModelTailor.keep must lie in [0, 1], got {keep}.")
        if samples < 1:
            raise UserError(f"trainer.callbacks: ModelTailor.samples must be at least 1, got {samples}.")
        if not damping > 0:
            raise UserError(f"trainer.callbacks: ModelTailor.damping must be above 0, got {damping}.")
        self.keep = keep
        self.samples = samples
        self.damping = damping
        self.measure_before = measure_before
        self._rows: Sequence[Row] = ()

    @override
    def copies(self) -> Sequence[Copy]:
        return [ANCHOR] if self.moves_weights() else []

    @override
    def moves_weights(self) -> bool:
        return self.keep < 1

    @override
    def select(
        self, trainer: Trainer, module: ContinualLMM, task: Task, rows: Sequence[Row]
    ) -> Sequence[Row]:
        self._rows = rows
        return rows

    @override
    def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        self.tensors = dict(module.anchor()) if self.moves_weights() else {}

    @override
    @torch.no_grad()
    def on_task_end(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        if not self.moves_weights():
            return
        if self.measure_before:
            module.sequence.measure(trainer, module, f"before {self.name}")
        rows = draw_rows(module, self._rows, self.samples, "Model Tailor")
        parameters = module.trained_parameters()
        for linears, others in blocks(module.model, module.anatomy, list(parameters)):
            moments = second_moments(module, rows, list(linears)) if self.keep and linears else {}
            for path, name in linears.items():
                hessian = damped(moments[path], self.damping) if path in moments else None
                self._tailor(name, parameters[name], hessian)
            for name in others:
                self._tailor(name, parameters[name], None)

    def _tailor(self, name: str, parameter: Tensor, hessian: Tensor | None) -> None:
        """Writes one tensor; collective where it is sharded. FSDP2 cuts rows, which are tailored for themselves."""
        write_rows_(parameter, tailored(self.tensors[name], parameter, hessian, self.keep))
