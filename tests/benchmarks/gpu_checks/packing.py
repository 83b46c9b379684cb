"""Packing on a GPU: hidden states of packed samples under sdpa and flash attention, compiled layers, and pinned copies.

``python -m tests.benchmarks.gpu_checks.packing`` on a machine with a GPU; tries flash attention where it is installed.
"""

import sys
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers.utils import is_flash_attn_2_available

from lmmcl.building.compiled_layers import compile_layers
from lmmcl.data.batches.batch import Batch
from lmmcl.data.batches.collate import Collator
from lmmcl.data.batches.micro_batches import PADDED, Layout, MicroBatches
from lmmcl.loading import Checkpoint
from lmmcl.losses import cross_entropy
from lmmcl.outputs.forward import AnswerForward
from lmmcl.structure.anatomy import Anatomy
from tests.toy import ToySource

ROUNDING = 0.05
"""Share of the loss by sample that bf16 may change."""


def losses(forwards: AnswerForward, batch: Batch) -> Tensor:
    """(samples,) by row id, under autocast, after a backward."""
    with forwards.autocast():
        outputs = forwards.token_outputs(batch.to("cuda"))
        each = outputs.map(cross_entropy)
    each.sum().backward()
    sums = torch.zeros(len(batch), device="cuda").index_add_(0, outputs.samples, each.detach().float())
    order = sorted(range(len(batch)), key=lambda sample: batch.ids[sample])
    return sums[order]


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit("skipped: there is no GPU")
    checkpoint = Checkpoint("mini")
    collator = Collator(checkpoint.processor(), None, always_image=False)
    rows = ToySource(0, text=True).split("train")
    for name in ("sdpa", *(["flash_attention_2"] if is_flash_attn_2_available() else [])):
        model: Any = checkpoint.model(False, 0, name).to("cuda").train()
        forwards = AnswerForward(model, bf16=True)
        one = name != "sdpa"
        layouts = {"padded": PADDED, "packed": Layout(packing=True, one=one)}
        found = {
            way: losses(forwards, MicroBatches(collator, layout).one(rows)) for way, layout in layouts.items()
        }
        compile_layers(model, Anatomy.of(model).decoder_layers)
        packed = MicroBatches(collator, layouts["packed"]).one(rows)
        found["packed, compiled"] = losses(forwards, packed)
        found["packed, pinned"] = losses(forwards, packed.pin_memory())
        for (way, values), (other, more) in pairwise(found.items()):
            difference = float(((more - values).abs() / values.clamp(min=0.1)).max())
            print(f"{name}: {other} differs from {way} by {difference:.2%} at most")
            if not difference <= ROUNDING:
                sys.exit(f"failed: {name}, {other} is not {way}")
    if not is_flash_attn_2_available():
        print("flash-attn is not installed: its packing was not tried")
    print("passed")


if __name__ == "__main__":
    main()
