"""Finds trained parameters that no gradient reaches, on which DDP would raise, before an optimizer takes them."""

from __future__ import annotations

import torch
import torch.distributed as dist

from lmmcl.data.batches.batch import Batch
from lmmcl.losses import cross_entropy
from lmmcl.model import ContinualLMM


def freeze_what_gets_no_gradient(module: ContinualLMM, batch: Batch) -> None:
    """Runs one backward, and freezes and lists (``module.without_gradient``) what it does not reach; collective.

    Such are LLaVA-NeXT's last vision layer and ``post_layernorm``, whose output nobody reads.

    Args:
        module: whose task has begun.
        batch: rows that together reach all that can train.
    """
    with module.autocast():
        loss = module.token_outputs(batch).map(cross_entropy).sum()
    loss.backward()
    parameters = module.trained_parameters()
    reached = torch.tensor([p.grad is not None for p in parameters.values()], device=module.device).int()
    if dist.is_initialized():
        dist.all_reduce(reached)
    for (name, parameter), touched in zip(parameters.items(), reached.tolist(), strict=True):
        parameter.grad = None
        if not touched:
            parameter.requires_grad_(False)
            module.without_gradient.append(name)
            del module.trained[name]
