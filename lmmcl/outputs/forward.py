"""Runs the wrapped model: at the answer tokens, with other weights, and for inference."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.func import functional_call

from lmmcl.data.batches.batch import IGNORED, Batch
from lmmcl.outputs.logit_probe import measure_logit_transform
from lmmcl.outputs.packed_inputs import inputs_of
from lmmcl.outputs.row_features import RowFeatures
from lmmcl.outputs.shared_pictures import SharedPictures
from lmmcl.outputs.token_outputs import AnswerHook, TokenOutputs, answer_tokens, every_token, tokens_at
from lmmcl.parallel.strategy import gathered, reshard
from lmmcl.structure.anatomy import Anatomy
from lmmcl.structure.picture_path import PicturePath
from lmmcl.weights import parameters_of, swapped


class AnswerForward:
    """Forwards of one model in which logits exist at answer tokens only.

    Args:
        model: an image-text-to-text model of transformers, before it is sharded.
        bf16: whether forwards compute in bf16.
        anatomy: of the model as it was loaded; None: forwards of one batch share nothing.
        liger: whether Liger's kernels may be used, where they can be.

    Attributes:
        row_features: of the batches that know their rows' pictures; None: the tower sees all of them.
    """

    row_features: RowFeatures | None = None

    def __init__(
        self, model: nn.Module, bf16: bool, anatomy: Anatomy | None = None, liger: bool = True
    ) -> None:
        self._model = model
        self._bf16 = bf16
        self._liger = liger
        self._transform = measure_logit_transform(model)
        head = model.get_output_embeddings()  # type: ignore[operator]  # transformers' models are untyped
        assert isinstance(head, nn.Module)
        self._head = head
        self._hook = AnswerHook(head)
        self._shared = None if anatomy is None else SharedPictures(PicturePath(model, anatomy))

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self._model.parameters()).device

    def token_outputs(
        self, batch: Batch, weights: Mapping[str, Tensor] | None = None, everywhere: bool = False
    ) -> TokenOutputs:
        """See `ContinualLMM.token_outputs`."""
        if batch.labels is None:
            raise ValueError("token_outputs needs a batch with labels")
        wanted = [batch.labels != IGNORED]
        if everywhere:
            wanted.append(every_token(batch))
        head: Callable[[Tensor], Tensor] = self.logits
        if weights is None:
            hidden = self._hidden(batch, wanted)
        else:
            present = {n: p for n, p in parameters_of(self._model).items() if n in weights}
            head = self.head_with(weights)
            with swapped(present, weights), self.inference(gather=False):
                hidden = self._hidden(batch, wanted, weights.keys())
                self.free_gathered()
        words = self._transform.words
        every = None
        if everywhere:
            tokens = tokens_at(batch.inputs["input_ids"], wanted[1], batch.segments)
            every = TokenOutputs(
                hidden[1], *tokens, head, words, frozen=self._frozen_head(), liger=self._liger
            )
        tokens = answer_tokens(batch.labels, batch.segments)
        return TokenOutputs(hidden[0], *tokens, head, words, every, self._frozen_head(), self._liger)

    def _frozen_head(self) -> bool:
        return not any(parameter.requires_grad for parameter in self._head.parameters())

    def _hidden(
        self, batch: Batch, wanted: Sequence[Tensor], swapped: Collection[str] | None = None
    ) -> list[Tensor]:
        inputs = inputs_of(self._model, batch)
        shared = nullcontext() if self._shared is None else self._shared.during(batch, swapped)
        rows = self.row_features
        of_rows = nullcontext() if rows is None else rows.answering(batch, swapped)
        with of_rows, shared:
            return self._hook.collect_at(lambda: self._model(**inputs, use_cache=False), wanted)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits (tokens, vocabulary) of hidden states (tokens, width)."""
        return self._transform(self._head(hidden))

    def head_with(self, weights: Mapping[str, Tensor]) -> Callable[[Tensor], Tensor]:
        """`logits` under other weights of the head; whole tensors, since it runs outside of FSDP2's hooks.

        Args:
            weights: by parameter name, sharded as the model is; those of other parts are passed over.
        """
        inside = {id(parameter): name for name, parameter in self._head.named_parameters()}
        own = {
            inside[id(p)]: weights[n]
            for n, p in parameters_of(self._model).items()
            if id(p) in inside and n in weights
        }
        if not own:
            return self.logits
        whole = {name: t.full_tensor() if isinstance(t, DTensor) else t for name, t in own.items()}
        return lambda hidden: self._transform(functional_call(self._head, whole, (hidden,)))

    @contextmanager
    def inference(self, gather: bool = True) -> Iterator[None]:
        """See `ContinualLMM.inference`."""
        training = {module: module.training for module in self._model.modules()}
        self._model.eval()
        everything: AbstractContextManager[Any] = gathered(self._model) if gather else nullcontext()
        try:
            # A cast made here and kept by an autocast around us would cut the student's gradient.
            with torch.no_grad(), self.autocast(cache=gather), everything:
                yield
        finally:
            for module, mode in training.items():
                module.training = mode

    def autocast(self, cache: bool = True) -> AbstractContextManager[None]:
        """The autocast of a training step, for forwards in a hook, which run outside of it."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16, cache_enabled=cache)

    def free_gathered(self) -> None:
        """After forwards without a gradient: lets go of gathered parameters, so that none outlives an update."""
        reshard(self._model)
