"""Flash attention against sdpa: losses and gradients of padded samples, time and memory, and which one is taken.

``python -m tests.benchmarks.gpu_checks.attention`` on a machine with a GPU and flash-attn.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.utils import is_flash_attn_2_available

from lmmcl.building.attention import FLASH, attention_for
from lmmcl.loading import Checkpoint
from tests.benchmarks.contestants import Work, collate, read_rows
from tests.benchmarks.vocabulary import Shape, write_checkpoint, write_samples

SHAPE, SAMPLES, ROUNDS = Shape(1_000, width=1024, layers=8), 16, 7


def step(model: torch.nn.Module, batch: dict[str, Tensor]) -> tuple[float, Tensor, float]:
    """Loss, the gradient of the first layer's query projection, and seconds."""
    model.zero_grad()
    torch.cuda.synchronize()
    begun = time.perf_counter()
    with torch.autocast("cuda", torch.bfloat16):
        loss = model(**batch, use_cache=False).loss
    loss.backward()
    torch.cuda.synchronize()
    took = time.perf_counter() - begun
    name, parameter = next(
        (n, p) for n, p in model.named_parameters() if "language" in n and "q_proj.weight" in n
    )
    if parameter.grad is None:
        raise SystemExit(f"{name} got no gradient")
    return loss.item(), parameter.grad.float(), took


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit("skipped: there is no GPU")
    if not is_flash_attn_2_available():
        sys.exit("skipped: flash-attn is not installed")
    with tempfile.TemporaryDirectory() as place:
        folder = write_checkpoint(Path(place) / "model", SHAPE)
        taken = attention_for(torch.device("cuda"), True, Checkpoint(str(folder)))
        if taken != FLASH:
            sys.exit(f"failed: {taken} is taken instead of {FLASH}")
        rows = write_samples(Path(place) / "rows", SHAPE, SAMPLES, lengths=((8, 100), (1, 20)))
        work = Work(str(folder), str(rows), "", "full", 1, 1, SAMPLES)
        batch = collate(AutoProcessor.from_pretrained(folder), read_rows(work))
        batch = {name: tensor.to("cuda") for name, tensor in batch.items()}
        found = {}
        for name in (FLASH, "sdpa"):
            model: Any = AutoModelForImageTextToText.from_pretrained(
                folder, dtype=torch.float32, attn_implementation=name
            )
            model.to("cuda").train()
            torch.cuda.reset_peak_memory_stats()
            steps = [step(model, batch) for _ in range(ROUNDS)]
            peak = torch.cuda.max_memory_allocated()
            found[name] = steps[-1]
            median = 1e3 * statistics.median(took for _, _, took in steps[2:])
            print(f"{name}: loss {steps[-1][0]:.6f}, {median:.2f} ms, {peak / 2**20:.0f} MiB")
            del model
    (loss, gradient, _), (other, reference, _) = found[FLASH], found["sdpa"]
    apart = float((gradient - reference).norm() / reference.norm())
    print(
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}: gradients differ by {apart:.2e} of their norm"
    )
    if abs(loss - other) > 0.01 * other or apart > 0.05:
        sys.exit("failed: more than bf16's rounding")


if __name__ == "__main__":
    main()
