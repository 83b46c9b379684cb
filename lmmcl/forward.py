"""Runs the wrapped model: at the answer tokens, with other weights, and for inference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.func import functional_call

from lmmcl.data.batch import IGNORED, Batch
from lmmcl.logit_probe import measure_logit_transform
from lmmcl.strategy import gathered, reshard
from lmmcl.token_outputs import AnswerHook, TokenOutputs, answer_tokens, every_token, tokens_at
from lmmcl.weights import parameters_of, swapped


class AnswerForward:
    """Forwards of one model in which logits exist at answer tokens only.

    Args:
        model: an image-text-to-text model of transformers, before it is sharded.
        bf16: whether forwards compute in bf16.
    """

    def __init__(self, model: nn.Module, bf16: bool) -> None:
        self._model = model
        self._bf16 = bf16
        self._transform = measure_logit_transform(model)
        head = model.get_output_embeddings()  # type: ignore[operator]  # transformers' models are untyped
        assert isinstance(head, nn.Module)
        self._head = head
        self._hook = AnswerHook(head)

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
            wanted.append(every_token(batch.labels, batch.inputs["attention_mask"]))
        head: Callable[[Tensor], Tensor] = self.logits
        if weights is None:
            hidden = self._hidden(batch, wanted)
        else:
            present = {n: p for n, p in parameters_of(self._model).items() if n in weights}
            head = self.head_with(weights)
            with swapped(present, weights), self.inference(gather=False):
                hidden = self._hidden(batch, wanted)
                self.free_gathered()
        words = self._transform.words
        every = None
        if everywhere:
            tokens = tokens_at(batch.inputs["input_ids"], wanted[1])
            every = TokenOutputs(hidden[1], *tokens, head, words)
        return TokenOutputs(hidden[0], *answer_tokens(batch.labels), head, words, every)

    def _hidden(self, batch: Batch, wanted: Sequence[Tensor]) -> list[Tensor]:
        return self._hook.collect_at(lambda: self._model(**batch.inputs, use_cache=False), wanted)

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
