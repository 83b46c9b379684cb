"""Cross-entropy and its gradient in one kernel of Liger, on a GPU where it is installed."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from lmmcl.losses import cross_entropy
from lmmcl.outputs.logit_rows import FusedFunction

_BLOCK = 32768
"""Words that the kernel reads at once, as Liger sets it."""


@cache
def installed() -> bool:
    """Whether there is a liger-kernel, and triton, which it is written in."""
    return find_spec("liger_kernel") is not None and find_spec("triton") is not None


def usable(logits: Tensor) -> bool:
    """Whether the kernel can read these logits here."""
    return logits.is_cuda and logits.dtype in (torch.bfloat16, torch.float32) and installed()


def cross_entropy_with_slopes(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood of each label and its derivative by the logits, computed in fp32 in one pass.

    The kernel of Hsu et al., 2024 (arXiv 2410.10989) is called as it is: Liger's own function gives losses in the dtype
    of the logits, and waits for the device to count labels.

    Args:
        logits: (tokens, vocabulary); left as they are.
        labels: (tokens,) token ids.

    Returns:
        (tokens,) in fp32, and (tokens, vocabulary) in the dtype of the logits.
    """
    from liger_kernel.ops.cross_entropy import liger_cross_entropy_kernel

    slopes, labels = logits.detach().clone(memory_format=torch.contiguous_format), labels.contiguous()
    tokens, words = slopes.shape
    losses = torch.zeros(tokens, dtype=torch.float32, device=slopes.device)
    if not tokens:
        return losses, slopes
    block = min(_BLOCK, 1 << (words - 1).bit_length())
    liger_cross_entropy_kernel[(tokens,)](
        X_ptr=slopes,
        X_stride=slopes.stride(0),
        Y_ptr=labels,
        Y_stride=1,
        weight_ptr=None,
        loss_ptr=losses,
        z_loss_ptr=None,
        loss_stride=1,
        token_accuracy_ptr=None,
        token_accuracy_stride=0,
        predicted_tokens_ptr=None,
        predicted_tokens_stride=0,
        n_cols=words,
        n_non_ignore=1,  # without a reduction nobody reads them, and for other numbers it would be compiled again
        sum_non_ignore_weight=1,
        ignore_index=-100,
        weight_sum=0.0,
        lse_square_scale=0.0,
        label_smoothing=0.0,
        reduction="none",
        softcap=None,
        RETURN_Z_LOSS=False,
        RETURN_TOKEN_ACCURACY=False,
        RETURN_PREDICTED_TOKENS=False,
        BLOCK_SIZE=block,
        HAS_WEIGHT=False,
        HAS_SOFTCAPPING=False,
        HAS_GRADIENTS=True,
        num_warps=32,
    )
    return losses, slopes


CROSS_ENTROPY = FusedFunction(cross_entropy, cross_entropy_with_slopes, usable)
"""`lmmcl.losses.cross_entropy`, in a kernel where it can be."""
