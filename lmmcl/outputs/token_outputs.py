"""What the model says at the answer tokens, or at all: hidden states and labels, with logits made a chunk at a time."""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lmmcl.data.batches.batch import IGNORED, Batch
from lmmcl.losses import cross_entropy
from lmmcl.outputs.liger import CROSS_ENTROPY
from lmmcl.outputs.logit_rows import (
    HeadFunction,
    RowFunction,
    TokenFunction,
    over_rows,
    rows_at_once,
    with_logits,
)

_LOGITS_AT_ONCE = 1 << 25
"""Elements of one chunk of logits: 64 MiB in bf16, 220 tokens of a vocabulary of 152,064."""


@dataclass(frozen=True)
class TokenOutputs:
    """Hidden states that predict an answer token, and the tokens they should predict.

    Args:
        hidden: (tokens, width) inputs of the output embedding.
        labels: (tokens,) the answer tokens.
        samples: (tokens,) which sample of the batch each token belongs to.
        head: maps (chunk, width) to logits (chunk, vocabulary).
        vocabulary: number of logits.
        everywhere: the same at every token of a sequence (prompt, picture and answer), from the same forward; None
            where nobody asked for it.
        frozen: whether no parameter of the head takes a gradient.
        liger: whether Liger's kernels may be used, where they can be.
    """

    hidden: Tensor
    labels: Tensor
    samples: Tensor
    head: Callable[[Tensor], Tensor]
    vocabulary: int
    everywhere: "TokenOutputs | None" = None
    frozen: bool = False
    liger: bool = True
    _logits: list[Tensor] = field(default_factory=list, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return int(self.labels.numel())

    def map(
        self,
        function: TokenFunction,
        *others: "TokenOutputs",
        beside: Sequence[Tensor] = (),
        last: bool = False,
    ) -> Tensor:
        """Applies a function of logits to every token without holding more than a chunk of logits.

        Where a gradient is asked for, that of the function is taken at once, row by row, and scaled in the backward
        pass: a result must be one number that depends on its own token alone, and on nothing else that learns.

        Args:
            function: called as ``function(logits, labels, *other_logits, *beside)`` with logits (rows, vocabulary)
                and labels (rows,), as many rows at a time as it likes best; returns (rows,), or without a gradient
                (rows, n).
            others: outputs of other weights at the same tokens; their logits follow the labels, without a gradient.
            beside: tensors (tokens, ...) that the function gets as many rows of, too.
            last: no other function follows, so that logits need not be kept; one that does makes them again.

        Returns:
            the function's results for all tokens, in their order.
        """
        if function is cross_entropy and self.liger:
            function = CROSS_ENTROPY
        size = max(1, _LOGITS_AT_ONCE // self.vocabulary)
        heads = [other.head for other in others]
        columns = (self.labels, *(other.hidden for other in others), *beside)
        if len(self) <= size:
            mine = last and not self._logits  # else another function has seen them, and may need them
            logits = self._kept_logits()
            if last:
                self._logits.clear()
            return _of_rows(function, logits, with_logits(columns, heads), over=mine)
        if self.frozen and self.hidden.requires_grad and torch.is_grad_enabled():
            return HeadFunction.apply(self.hidden, self.head, function, size, heads, *columns)  # type: ignore[no-any-return, no-untyped-call]  # torch's apply is untyped

        def apply(hidden: Tensor, *along: Tensor) -> Tensor:
            return _of_rows(function, self.head(hidden), with_logits(along, heads))

        chunks = zip(*(column.split(size) for column in (self.hidden, *columns)), strict=True)
        # Recomputed in the backward pass, where the head learns: its gradient needs what is upstream of every token.
        return torch.cat([checkpoint(apply, *chunk, use_reentrant=False) for chunk in chunks])

    def _kept_logits(self) -> Tensor:
        """The logits of all tokens; where there is a gradient, one product serves all functions until its backward."""
        if self._logits and torch.is_grad_enabled():
            return self._logits[0]
        logits = self.head(self.hidden)
        if logits.requires_grad:
            self._logits.append(logits)
            mine = weakref.ref(self)
            logits.register_hook(lambda gradient: _forget(mine()))
        return logits


def _forget(outputs: TokenOutputs | None) -> None:
    """After a backward pass, which frees what the product was made of."""
    if outputs is not None:
        outputs._logits.clear()


def _of_rows(
    function: TokenFunction, logits: Tensor, columns: Sequence[Tensor], over: bool = False
) -> Tensor:
    """A function of logits and other columns, a few rows at a time; ``over``: see `over_rows`."""
    if not (logits.requires_grad and torch.is_grad_enabled()):
        return over_rows(function, logits, columns, gradient=False)[0]
    if len(logits) <= rows_at_once(logits.device, logits.shape[-1]):
        return function(logits, *columns)
    return RowFunction.apply(logits, function, over, *columns)  # type: ignore[no-any-return, no-untyped-call]  # torch's apply is untyped


class AnswerHook:
    """Narrows what reaches the output embedding, so that no (batch, length, vocabulary) tensor ever exists.

    Installed once on ``get_output_embeddings()``. While tokens are wanted, the hidden states that predict them are
    kept and the embedding gets nothing to multiply; otherwise, in generation, it gets the last position only.
    ``logits_to_keep`` of transformers is missing in some architectures and keeps nearly everything when there are
    several turns.
    """

    def __init__(self, embedding: nn.Module) -> None:
        self._wanted: Sequence[Tensor] = ()
        self._hidden: list[Tensor] = []
        embedding.register_forward_pre_hook(self._narrow)

    def _narrow(self, embedding: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden, *rest = arguments
        if hidden.dim() == 2:  # (tokens, width), from TokenOutputs.map
            return arguments
        if not self._wanted:  # (batch, length, width), in generation
            return hidden[:, -1:], *rest
        length = self._wanted[0].shape[1]
        # Shifted by one: the state at position t predicts the token at t + 1.
        states = hidden[:, -length:][:, :-1]
        self._hidden = [states[wanted[:, 1:]] for wanted in self._wanted]
        return hidden[:, :0], *rest

    def collect(self, forward: Callable[[], object], labels: Tensor) -> Tensor:
        """Runs a forward and returns the hidden states at the answer tokens, (tokens, width)."""
        return self.collect_at(forward, [labels != IGNORED])[0]

    def collect_at(self, forward: Callable[[], object], wanted: Sequence[Tensor]) -> list[Tensor]:
        """Runs a forward and returns the hidden states that predict the wanted tokens.

        Args:
            forward: calls the model once.
            wanted: (batch, length) each, True at a token to be predicted; that of the first position never is.

        Returns:
            (tokens, width) for each.
        """
        self._wanted, self._hidden = wanted, []
        try:
            forward()
            if not self._hidden:
                raise RuntimeError("the model's forward did not call its output embedding")
            return self._hidden
        finally:
            self._wanted, self._hidden = (), []


def answer_tokens(labels: Tensor, segments: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Labels and sample indices of all answer tokens of a batch, in the order of ``AnswerHook.collect``.

    Args:
        labels: (sequences, length).
        segments: (sequences, length) the sample at every position; None: every sequence is one.

    Returns:
        labels (tokens,) and the index of each token's sample (tokens,).
    """
    return tokens_at(labels, labels != IGNORED, segments)


def tokens_at(tokens: Tensor, wanted: Tensor, segments: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Wanted tokens of a batch and their sample indices, in the order of ``AnswerHook.collect_at``.

    Args:
        tokens: (sequences, length).
        wanted: (sequences, length), True at a token to be predicted; that of the first position never is.
        segments: (sequences, length) the sample at every position; None: every sequence is one.

    Returns:
        tokens (tokens,) and the index of each token's sample (tokens,).
    """
    wanted = wanted[:, 1:]
    samples = wanted.nonzero()[:, 0] if segments is None else segments[:, 1:][wanted]
    return tokens[:, 1:][wanted], samples


def every_token(batch: Batch) -> Tensor:
    """Where the tokens of a batch's samples are, (sequences, length): no padding, and no filler, which has no answer.

    Of a packed batch without the first of each sample, which nothing predicts, as none predicts that of a sequence.
    """
    assert batch.labels is not None
    learned = batch.per_sample(batch.labels != IGNORED) > 0
    if batch.segments is None:
        return batch.mask() & learned[:, None]
    behind_the_first: Tensor = batch.inputs["position_ids"] > 0
    return batch.mask() & learned[batch.segments.clamp(min=0)] & behind_the_first
