"""Gradient projection memory: what past tasks put into a layer comes out of it as before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from lmmcl.data.row import Row
from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.evaluation.processes import from_first
from lmmcl.mitigation import ANCHOR, Copy, Mitigation
from lmmcl.model import ContinualLMM
from lmmcl.parallel.tensor_group import with_whole_rows, write_rows_
from lmmcl.probing.calibration import draw_rows
from lmmcl.probing.layer_inputs import input_moments, linear_layers
from lmmcl.weights import copy_, local

_NOISE = 1e-12
"""Share of the energy below which a direction is rounding."""


def extended(basis: Tensor | None, moments: Tensor, energy: float) -> Tensor:
    """The basis of a layer's past inputs, with the fewest directions added that hold enough of the new ones.

    Saha et al., 2021, section 5, equations 8 and 9: of the part R̂ = R − M Mᵀ R of the inputs R that M does not hold,
    the first k left singular vectors, so that ‖M Mᵀ R‖² + ‖R̂_k‖² ≥ ε ‖R‖².

    Args:
        basis: M (inputs, rank), orthonormal columns; None: no past.
        moments: R Rᵀ (inputs, inputs).
        energy: ε; from 1 on, every direction that is more than rounding.

    Returns:
        (inputs, rank + k) in fp32.
    """
    rest, total = moments, moments.trace()
    room = len(moments)
    if basis is not None:
        held = basis.to(moments.dtype)
        rest = moments - held @ (held.T @ moments)
        rest = rest - (rest @ held) @ held.T
        room -= basis.shape[1]
    values, vectors = torch.linalg.eigh((rest + rest.T) / 2)
    values, vectors = values.flip(0)[:room].clamp(min=0), vectors.flip(1)[:, :room]  # the largest first
    before = total - rest.trace() + values.cumsum(0) - values  # energy held before each direction is added
    wanted = (before < energy * total) if energy < 1 else torch.ones_like(values, dtype=torch.bool)
    count = int((wanted & (values > _NOISE * total)).sum())
    # Row by row in memory, as a checkpoint gives it back: products round by the layout of their factors.
    added = vectors[:, :count].float().contiguous()
    return added if basis is None else torch.cat([basis, added], dim=1).contiguous()


def projected(moved: Tensor, basis: Tensor) -> Tensor:
    """The part of a change of weights that no input in the span of the basis notices: Δ − Δ M Mᵀ.

    Args:
        moved: Δ (outputs, inputs), or some of its rows.
        basis: M (inputs, rank).
    """
    return moved - (moved @ basis) @ basis.T


class GPM(Mitigation):
    """Keeps every change of a linear layer's weight off the span of what past tasks put into it: Δ M Mᵀ = 0.

    Saha et al., 2021, arXiv 2103.09762, section 5. When a task has ended, the inputs of each linear layer that a later
    task trains are taken at all positions of some of its samples, and M grows by the directions that hold a share ε of
    their energy, with ε rising from task to task. Adam would turn a projected gradient out of its subspace, and weight
    decay too: so what is projected, right after each optimizer step, is the change of the weight since the task began.
    The first task is plain fine-tuning: nothing is known of what came before it.

    What trains beside the weights of linear layers inside the model (norms, biases, embeddings, the head, convolutions,
    fused experts) has no such span: as the paper does with norms, it trains in the first task and stays as it is from
    the second on, which is told. It is refused beside adapters and experts, which train other weights than the layers'
    own. It costs one copy of what trains and a basis of up to width × width for each layer, which no plan counts; at
    the end of a task a few passes over the samples and an eigendecomposition for each layer.

    Args:
        epsilon: ε after the first task, above 0; from 1 on, all that is more than rounding.
        epsilon_step: by how much ε rises with each task, from 0.
        samples: of each task, from 0; 0 is plain fine-tuning, bit for bit.
        name: of its state.

    Raises:
        UserError: a value is out of its range.
    """

    def __init__(
        self, epsilon: float = 0.97, epsilon_step: float = 0.003, samples: int = 125, name: str | None = None
    ) -> None:
        super().__init__(name)
        if not epsilon > 0:
            raise UserError(f"trainer.callbacks: GPM.epsilon must be above 0, got {epsilon}.")
        for key, value in (("epsilon_step", epsilon_step), ("samples", samples)):
            if not value >= 0:
                raise UserError(f"trainer.callbacks: GPM.{key} must be at least 0, got {value}.")
        self.epsilon = epsilon
        self.epsilon_step = epsilon_step
        self.samples = samples
        self._rows: Sequence[Row] = ()
        self._hooked: Optimizer | None = None

    @override
    def needs_masters(self) -> str | None:
        reason = "it writes every step's change again, projected, and bf16 would round it to nearest."
        return reason if self.samples else None

    @override
    def copies(self) -> Sequence[Copy]:
        return [ANCHOR] if self.samples else []

    @override
    def conflict(self, other: Mitigation) -> str | None:
        if self.samples and type(other).adapt is not Mitigation.adapt:
            return (
                f"GPM protects the weights of the model's own linear layers, and {other.name} trains others in "
                "their place; leave one of them out."
            )
        return None

    @override
    def select(
        self, trainer: Trainer, module: ContinualLMM, task: Task, rows: Sequence[Row]
    ) -> Sequence[Row]:
        self._rows = rows
        return rows

    @override
    def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        if not self.samples or module.sequence.position.stage == 1:
            return
        self.tensors = self._bases() | {f"anchor/{name}": t for name, t in module.anchor().items()}
        fixed = sorted(module.trained.keys() - linear_layers(module, module.trained).keys())
        if fixed:
            module.sequence.report_notice(
                f"{self.name}: {task.name} leaves {len(fixed)} tensors as they are, which are no weights of linear "
                f"layers: {', '.join(fixed[:3])}{', ...' if len(fixed) > 3 else ''}"
            )

    def _bases(self) -> dict[str, Tensor]:
        return {key: tensor for key, tensor in self.tensors.items() if key.endswith("/basis")}

    @override
    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Right after the step, before any callback sees the new weights, they are projected."""
        assert isinstance(pl_module, ContinualLMM)
        if optimizer is self._hooked or not any(key.startswith("anchor/") for key in self.tensors):
            return
        module, linear = pl_module, set(linear_layers(pl_module, pl_module.trained))

        def project(*step: Any) -> None:
            self.project(module.trained_parameters(), linear)

        optimizer.register_step_post_hook(project)
        self._hooked = optimizer

    @torch.no_grad()
    def project(self, parameters: Mapping[str, Tensor], linear: set[str]) -> None:
        """Takes back, in place, what the weights changed inside the span of past inputs.

        Args:
            parameters: what trains, by name; on FSDP2 each process has some rows, whose projection is its own.
                Collective where columns are cut.
            linear: those that are weights of linear layers; the others stay as they were.
        """
        for name, parameter in parameters.items():
            anchor, basis = self.tensors[f"anchor/{name}"], self.tensors.get(f"{name}/basis")
            if name not in linear or (basis is not None and basis.shape[0] == basis.shape[1]):
                copy_({name: parameter}, {name: anchor})
            elif basis is not None:
                value, before = local(with_whole_rows(parameter)), local(with_whole_rows(anchor))
                write_rows_(parameter, before + projected(value - before, basis))

    @override
    def on_task_end(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        if not self.samples:
            return
        self.tensors, self._hooked = self._bases(), None
        stage = module.sequence.position.stage
        later = {name for other in module.data.tasks[stage:] for name in module.trained_by(other)}
        layers = linear_layers(module, later)
        if not layers:
            return
        rows = draw_rows(module, self._rows, self.samples, "GPM")
        energy = self.epsilon + self.epsilon_step * (stage - 1)
        shares = []
        for name, moments in input_moments(module, rows, layers):
            if moments.any():
                basis = from_first(extended(self.tensors.get(f"{name}/basis"), moments, energy).cpu())
                self.tensors[f"{name}/basis"] = basis.to(module.device)
                shares.append(basis.shape[1] / basis.shape[0])
        held = f"{100 * sum(shares) / len(shares):.0f} % on average" if shares else "none"
        module.sequence.report_notice(
            f"{self.name}: of the inputs of {len(layers)} layers, {held} of the directions are held after {task.name}, "
            f"by {len(rows)} samples"
        )
