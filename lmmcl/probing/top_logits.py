"""The largest logits that the model as it stands gives at the answer tokens of some rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lmmcl.agreement import agreed
from lmmcl.data.row import Row
from lmmcl.data_parallel import share, sum_over_shares
from lmmcl.model import ContinualLMM


@torch.no_grad()
def top_logits(module: ContinualLMM, rows: Sequence[Row], k: int) -> tuple[list[int], Tensor, Tensor]:
    """Runs the model in eval mode over rows and keeps the ``k`` largest logits of every answer token; collective.

    Processes deal the rows among themselves and run equally many forwards.

    Args:
        module: between two tasks.
        rows: the same on every process, with ids of their own; at least one.
        k: logits of a token, from 1; all where the vocabulary has no more.

    Returns:
        the answer tokens of each row (0 where the collator drops it as too long); which words, (tokens, k) in int32,
        and their logits, (tokens, k) in fp32, row after row, the same on every process.
    """
    rank, world = share()
    data = module.data
    size = 1 if data.layout.tokens else data.steps.micro_batch_size or -(-data.steps.batch_size // world)
    counts = torch.zeros(len(rows), dtype=torch.int64, device=module.device)
    found: dict[int, Tensor] = {}
    width = 0
    with agreed():
        for start in range(0, len(rows), size * world):
            mine = range(start + rank, min(start + size * world, len(rows)), world)
            made = data.collator.train([rows[i] for i in mine]) if mine else data.collator.filler(rows[0])
            batch = made.to(module.device)
            with module.inference(gather=False):
                outputs = module.token_outputs(batch)
                best = outputs.map(lambda logits, labels: _largest(logits, k))  # (tokens, 2 k)
                module.free_gathered()
            width = best.shape[1]
            index = {rows[i].id: i for i in mine}
            for sample, name in enumerate(batch.ids):
                if name in index:
                    found[index[name]] = best[outputs.samples == sample]
                    counts[index[name]] = len(found[index[name]])
    sum_over_shares(counts)
    lengths = counts.tolist()
    whole = torch.zeros(sum(lengths), width, device=module.device)
    start = 0
    for i, length in enumerate(lengths):
        if i in found:
            whole[start : start + length] = found[i]
        start += length
    sum_over_shares(whole)
    return lengths, whole[:, : width // 2].int(), whole[:, width // 2 :]


def _largest(logits: Tensor, k: int) -> Tensor:
    """Words and logits side by side; whole numbers up to 2²⁴ are exact in fp32."""
    values, words = logits.float().topk(min(k, logits.shape[-1]), dim=-1)
    return torch.cat([words.float(), values], dim=-1)
