"""One optimizer step: its random bits, its loss with the terms of the mitigations, and its gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lmmcl.data.batches.batch import Batch
from lmmcl.data.batches.order import draw
from lmmcl.data_parallel import share
from lmmcl.losses import cross_entropy
from lmmcl.mitigation import Mitigation
from lmmcl.optim.optimizer import clip_by_norm, clip_by_value
from lmmcl.parallel.strategy import FSDP2Strategy
from lmmcl.window import JoinedSets, Window, apply_weight_penalties

if TYPE_CHECKING:
    from lmmcl.model import ContinualLMM


class OptimizerStep:
    """What the hooks of a step do, in their order: `begin`, `loss` of every micro-batch, `means`, `clip`.

    Args:
        module: that is trained.

    Attributes:
        joined: the sets whose rows join every step of the present task.
    """

    def __init__(self, module: ContinualLMM) -> None:
        self.joined = JoinedSets({})
        self._module = module
        self._window = Window()

    def begin(self, batch: Batch) -> None:
        """Before the first micro-batch; collective."""
        module = self._module
        self._window.begin(batch.window_tokens, module.device, batch.joined_tokens)
        # Dropout and the like: counter-based, so that there is nothing to save.
        assert module.task is not None
        step = module.sequence.position.step
        key = (module.hparams["seed"], module.task.name, step, share()[0], "torch")
        torch.manual_seed(int(draw(1, *key)[0] >> 1))

    def loss(self, batch: Batch) -> Tensor:
        """A micro-batch's part of the loss: the answers', and a term of every mitigation that has one."""
        module = self._module
        if batch.idle:
            return torch.zeros((), device=module.device, requires_grad=True)
        mitigations = module.mitigations
        for mitigation in mitigations:
            mitigation.before_forward(module, batch)
        everywhere = any(mitigation.positions == "all" for mitigation in mitigations)
        outputs = module.token_outputs(batch, everywhere=everywhere)
        terms_follow = any(type(one).token_loss is not Mitigation.token_loss for one in mitigations)
        losses = outputs.map(cross_entropy, last=not terms_follow)
        terms = {"loss": self._window.summed(losses, outputs.samples, batch, self.joined)}
        for mitigation in mitigations:
            extra = mitigation.token_loss(module, batch, outputs)
            if extra is not None:
                at = outputs if mitigation.positions == "answer" else outputs.everywhere
                assert at is not None
                name = mitigation.name
                terms[name] = self._window.summed(extra, at.samples, batch, self.joined, name)
        return self._window.add(terms, share()[1], module.trainer.accumulate_grad_batches)

    def means(self) -> dict[str, Tensor]:
        """After the backward pass: adds the gradients of the weight penalties; collective.

        Returns:
            ``loss`` and every mitigation's term, per answer token of the global batch.
        """
        trainer = self._module.trainer
        penalties = apply_weight_penalties(self._module.mitigations, self._module.trained_parameters())
        sharded = isinstance(trainer.strategy, FSDP2Strategy)
        return self._window.means(penalties, sharded, trainer.global_step + 1)

    def clip(self, most: float | None, algorithm: str | None) -> Tensor:
        """Clips the gradients, and looks at whether they are finite; collective where they are sharded.

        Args:
            most: None or 0 leaves them as they are.
            algorithm: ``value``, or by their norm.

        Returns:
            Their norm before, a scalar.
        """
        parameters = self._module.trained_parameters().values()
        by_value = algorithm == "value"
        norm = clip_by_norm(parameters, None if by_value else most)
        self._window.watch(norm, self._module.trainer.global_step + 1)
        if by_value and most:
            # Not Lightning's clip_gradients, which refuses a fused optimizer under bf16-mixed for fp16's sake.
            clip_by_value(parameters, most)
        return norm

    def check_finite(self) -> None:
        """Raises UserError, naming task and step, if a loss or gradient was not finite since the fit began."""
        task = self._module.task
        self._window.check_finite(task.name if task else "?")
