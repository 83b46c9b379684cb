"""What the model says at the answer tokens, or at all: hidden states and labels, with logits made a chunk at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lmmcl.data.batch import IGNORED

TokenFunction = Callable[..., Tensor]

_LOGITS_AT_ONCE = 1 << 26
"""Elements of one chunk of logits: 256 MiB in fp32, 441 tokens of a vocabulary of 152,064."""


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
    """

    hidden: Tensor
    labels: Tensor
    samples: Tensor
    head: Callable[[Tensor], Tensor]
    vocabulary: int
    everywhere: "TokenOutputs | None" = None

    def __len__(self) -> int:
        return int(self.labels.numel())

    def map(self, function: TokenFunction, *others: "TokenOutputs", beside: Sequence[Tensor] = ()) -> Tensor:
        """Applies a function of logits to every token without holding more than a chunk of logits.

        Args:
            function: called as ``function(logits, labels, *other_logits, *beside)`` with logits (chunk, vocabulary)
                and labels (chunk,); returns (chunk,) or (chunk, n).
            others: outputs of other weights at the same tokens; their logits follow the labels, without a gradient.
            beside: tensors (tokens, ...) that the function gets a chunk at a time, too.

        Returns:
            the function's results for all tokens, in their order.
        """
        size = max(1, _LOGITS_AT_ONCE // self.vocabulary)

        def apply(hidden: Tensor, labels: Tensor, *more: Tensor) -> Tensor:
            other_hidden, along = more[: len(others)], more[len(others) :]
            with torch.no_grad():
                other_logits = [other.head(part) for other, part in zip(others, other_hidden, strict=True)]
            return function(self.head(hidden), labels, *other_logits, *along)

        columns = (self.hidden, self.labels, *(other.hidden for other in others), *beside)
        if len(self) <= size:
            return apply(*columns)
        chunks = zip(*(column.split(size) for column in columns), strict=True)
        # Recomputed in the backward pass: otherwise every chunk's logits would live until then.
        return torch.cat([checkpoint(apply, *chunk, use_reentrant=False) for chunk in chunks])


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


def answer_tokens(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Labels and sample indices of all answer tokens of a batch, in the order of ``AnswerHook.collect``.

    Args:
        labels: (batch, length).

    Returns:
        labels (tokens,) and the index of each token's sample (tokens,).
    """
    return tokens_at(labels, labels != IGNORED)


def tokens_at(tokens: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Wanted tokens of a batch and their sample indices, in the order of ``AnswerHook.collect_at``.

    Args:
        tokens: (batch, length).
        wanted: (batch, length), True at a token to be predicted; that of the first position never is.

    Returns:
        tokens (tokens,) and the index of each token's sample (tokens,).
    """
    wanted = wanted[:, 1:]
    return tokens[:, 1:][wanted], wanted.nonzero()[:, 0]


def every_token(labels: Tensor, attention_mask: Tensor) -> Tensor:
    """Where the tokens of a batch's samples are, (batch, length): no padding, and no filler, which has no answer.

    Args:
        labels: (batch, length).
        attention_mask: (batch, length).
    """
    return attention_mask.bool() & (labels != IGNORED).any(dim=1, keepdim=True)
