"""A model of transformers under Lightning, and the one way to run it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn import Parameter

from lmmcl.data.batches.batch import Batch
from lmmcl.evaluation.generate import generate
from lmmcl.outputs.forward import AnswerForward
from lmmcl.outputs.row_features import RowFeatures
from lmmcl.outputs.token_outputs import TokenOutputs
from lmmcl.structure.anatomy import Anatomy
from lmmcl.weights import parameters_of


class WrappedModel(LightningModule):
    """Wraps an image-text-to-text model, which a subclass makes and gives to `_wrap` and `_ready`.

    Attributes:
        model: the model itself. Nobody calls it: forwards go through the methods below, on every strategy.
        processor: of its checkpoint.
    """

    model: nn.Module
    processor: Any

    def __init__(self) -> None:
        super().__init__()
        self._anatomy: Anatomy | None = None

    def _wrap(self, model: nn.Module) -> None:
        """Takes the model as it was loaded, before anything changes its structure."""
        self._anatomy = Anatomy.of(model)
        self.model = model

    def _ready(self, liger: bool) -> None:
        """Makes it run, once its adapters are added, before it is sharded."""
        self._forwards = AnswerForward(self.model, self.bf16, self.anatomy, liger)

    def keep_rows(self, features: RowFeatures | None) -> None:
        """From now on batches that know their rows' pictures are answered by these features; None: by the tower."""
        self._forwards.row_features = features

    @property
    def anatomy(self) -> Anatomy:
        """Groups of parameters and paths of the layers."""
        if self._anatomy is None:
            raise RuntimeError("the model is built by configure_model, which Lightning calls")
        return self._anatomy

    @property
    def bf16(self) -> bool:
        """Whether forwards compute in bf16."""
        return self.trainer.precision == "bf16-mixed"

    def parameters_by_name(self, names: Sequence[str] | None = None) -> dict[str, Parameter]:
        """Parameters of the wrapped model, all or the named ones, in model order."""
        wanted = None if names is None else set(names)
        return {n: p for n, p in parameters_of(self.model).items() if wanted is None or n in wanted}

    def token_outputs(
        self, batch: Batch, weights: Mapping[str, Tensor] | None = None, everywhere: bool = False
    ) -> TokenOutputs:
        """What the model predicts at the answer tokens of a batch.

        Args:
            batch: with labels.
            weights: run these values of some parameters instead of the present ones: in eval mode, without a
                gradient, under the student's autocast. Call it before the student's forward.
            everywhere: also what it predicts at every other token of the samples, in `TokenOutputs.everywhere`.
        """
        return self._forwards.token_outputs(batch, weights, everywhere)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits (tokens, vocabulary) of hidden states (tokens, width)."""
        return self._forwards.logits(hidden)

    def head_with(self, weights: Mapping[str, Tensor]) -> Callable[[Tensor], Tensor]:
        """`logits` with other values of the output embedding, by parameter name; collective where they are sharded."""
        return self._forwards.head_with(weights)

    def inference(self, gather: bool = True) -> AbstractContextManager[None]:
        """Eval mode, no gradient, the training's autocast; sharded parameters stay gathered if asked."""
        return self._forwards.inference(gather)

    def autocast(self) -> AbstractContextManager[None]:
        """The autocast of a training step, for forwards in a hook, which run outside of it."""
        return self._forwards.autocast()

    def free_gathered(self) -> None:
        """After forwards without a gradient: lets go of gathered parameters, so that none outlives an update."""
        self._forwards.free_gathered()

    def generate(self, batch: Batch, max_new_tokens: int) -> list[str]:
        """Greedy answers to a batch of prompts."""
        return generate(self.model, self.processor, batch.to(self.device), max_new_tokens)
