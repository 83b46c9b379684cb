"""Functions of logits, a few rows at a time, with the gradient taken on the spot: it needs no second pass."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from typing_extensions import override

TokenFunction = Callable[..., Tensor]
"""Called as ``function(logits, *columns)`` with logits (rows, vocabulary); each result depends on its own row alone."""


@dataclass(frozen=True)
class FusedFunction:
    """A function of logits with a kernel that gives its derivative, too, without anything else of their size.

    Args:
        plain: the function.
        with_slopes: called as the function, gives its results and the derivatives, in the dtype of the logits.
        usable: whether the kernel can read such logits here.
    """

    plain: TokenFunction
    with_slopes: Callable[..., tuple[Tensor, Tensor]]
    usable: Callable[[Tensor], bool]

    def __call__(self, logits: Tensor, *columns: Tensor) -> Tensor:
        """The function without its kernel."""
        return self.plain(logits, *columns)


_AT_ONCE = {"cpu": 1 << 19}
"""Logits that a function gets at once, by device: 2 MiB in fp32 stay in a core's cache (4 times as fast there)."""
_AT_ONCE_ELSEWHERE = 1 << 23
"""The same on a GPU, where every kernel costs a launch: a quarter of a chunk, at most 130 MiB with all that is made."""


def rows_at_once(device: torch.device, vocabulary: int) -> int:
    """Rows of logits that a function gets at once."""
    return max(1, _AT_ONCE.get(device.type, _AT_ONCE_ELSEWHERE) // vocabulary)


def over_rows(
    function: TokenFunction, logits: Tensor, columns: Sequence[Tensor], gradient: bool, over: bool = False
) -> tuple[Tensor, Tensor | None]:
    """A function's results, (rows,) or (rows, n), and with ``gradient`` the derivative of each by its row of logits.

    What the function makes on its way (fp32 copies, log-probabilities) exists for a few rows at a time.

    Args:
        function: see `TokenFunction`.
        logits: (rows, vocabulary).
        columns: tensors (rows, ...) that the function gets beside them.
        gradient: whether the derivative is wanted, too; results must then be (rows,).
        over: write the derivatives over the logits, which nobody reads again.

    Returns:
        results without a gradient; the derivatives (rows, vocabulary) in the dtype of the logits, or None.

    Raises:
        ValueError: a derivative is wanted and a result is not one number, or follows from more that takes a gradient.
    """
    if gradient and isinstance(function, FusedFunction) and function.usable(logits):
        return function.with_slopes(logits.detach(), *columns)
    size = rows_at_once(logits.device, logits.shape[-1])
    slopes = (logits.detach() if over else torch.empty_like(logits)) if gradient else None
    found = []
    for start in range(0, max(1, len(logits)), size):
        part = logits.detach()[start : start + size].requires_grad_(gradient)
        along = [column[start : start + size] for column in columns]
        with torch.set_grad_enabled(gradient):
            values = function(part, *along)
        if slopes is not None:
            slopes[start : start + size] = _slopes(values, part)
        found.append(values.detach())
    return torch.cat(found), slopes


def _slopes(values: Tensor, part: Tensor) -> Tensor:
    """The derivative of each value by its row."""
    if values.dim() != 1:
        raise ValueError(
            f"a function of logits with a gradient must return (rows,), got {tuple(values.shape)}"
        )
    if not values.requires_grad:
        return torch.zeros_like(part)
    if any(leaf is not part for leaf in _leaves(values)):
        raise ValueError("a function of logits must not use anything else that takes a gradient")
    with torch.autocast(part.device.type, enabled=False):  # as in any backward pass
        (slope,) = torch.autograd.grad(values, part, torch.ones_like(values))
    return slope


def _leaves(tensor: Tensor) -> list[Tensor]:
    """What a backward pass from a tensor would reach."""
    met: set[Any] = set()
    pending: list[Any] = [tensor.grad_fn]
    while pending:
        node = pending.pop()
        if node is not None and node not in met:
            met.add(node)
            pending += [before for before, _ in node.next_functions]
    return [node.variable for node in met if hasattr(node, "variable")]


class RowFunction(torch.autograd.Function):
    """``RowFunction.apply(logits, function, over, *columns)`` is ``function(logits, *columns)``, (rows,).

    What is kept for the backward pass are the derivatives, as large as the logits and in their dtype: for a loss in
    fp32 of logits in bf16 a fifth of what autograd holds at its peak, and each number is touched once. With ``over``
    they lie where the logits lay: those must be nobody else's.
    """

    @staticmethod
    @override
    def forward(ctx: Any, logits: Tensor, function: TokenFunction, over: bool, *columns: Tensor) -> Tensor:
        """See `over_rows`."""
        values, slopes = over_rows(function, logits, columns, ctx.needs_input_grad[0], over)
        ctx.save_for_backward(slopes)
        ctx.columns = len(columns)
        return values

    @staticmethod
    @override
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """Each row's derivative times what is upstream of its result."""
        (slopes,) = ctx.saved_tensors
        return scaled(slopes, upstream), None, None, *[None] * ctx.columns


class HeadFunction(torch.autograd.Function):
    """Hidden states to results through a frozen head, chunk by chunk, with the gradient of the hidden states at once.

    Nothing of the size of the logits outlives a chunk, and no product with the head is made twice, as it is where
    chunks are recomputed (the way of Liger, arXiv 2410.10989, section 3.2).
    """

    @staticmethod
    @override
    def forward(
        ctx: Any,
        hidden: Tensor,
        head: Callable[[Tensor], Tensor],
        function: TokenFunction,
        size: int,
        heads: Sequence[Callable[[Tensor], Tensor]],
        *columns: Tensor,
    ) -> Tensor:
        """Results (tokens,).

        Args:
            ctx: autograd's.
            hidden: (tokens, width).
            head: gives the logits of hidden states; none of its parameters takes a gradient.
            function: see `over_rows`.
            size: tokens of a chunk.
            heads: of the last columns, which are hidden states, too: the function gets their logits.
            columns: tensors (tokens, ...).
        """
        found, slopes = [], torch.empty_like(hidden)
        for start in range(0, len(hidden), size):
            part = hidden.detach()[start : start + size].requires_grad_()
            along = [column[start : start + size] for column in columns]
            with torch.enable_grad():
                logits = head(part)
            others = with_logits(along, heads)
            values, gradient = over_rows(function, logits, others, gradient=True)
            with torch.autocast(hidden.device.type, enabled=False):
                (slopes[start : start + size],) = torch.autograd.grad(logits, part, gradient)
            found.append(values)
            del logits, others, gradient  # before the next ones are made
        ctx.save_for_backward(slopes)
        ctx.columns = len(columns)
        return torch.cat(found)

    @staticmethod
    @override
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """Each token's derivative times what is upstream of its result."""
        (slopes,) = ctx.saved_tensors
        return scaled(slopes, upstream), None, None, None, None, *[None] * ctx.columns


def with_logits(columns: Sequence[Tensor], heads: Sequence[Callable[[Tensor], Tensor]]) -> list[Tensor]:
    """Columns (labels, hidden states of every head, others) with logits, which have no gradient, for hidden states."""
    labels, *rest = columns
    with torch.no_grad():
        logits = [head(hidden) for head, hidden in zip(heads, rest[: len(heads)], strict=True)]
    return [labels, *logits, *rest[len(heads) :]]


def scaled(slopes: Tensor, factors: Tensor) -> Tensor:
    """Rows times factors (rows,) in fp32, rounded once to the dtype of the rows; a few rows at a time.

    In a backward pass that keeps nothing for another one (``retain_graph``) they are scaled in place.
    """
    found = torch.empty_like(slopes) if _keeps_graph() else slopes
    size = rows_at_once(slopes.device, slopes.shape[-1])
    for start in range(0, len(slopes), size):
        found[start : start + size] = slopes[start : start + size] * factors[start : start + size, None]
    return found


def _keeps_graph() -> bool:
    """Whether the backward pass that is running may be followed by another one, as torch's compiler asks, too."""
    return torch._C._autograd._get_current_graph_task_keep_graph()
