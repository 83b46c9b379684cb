"""Optimizers and frozen layers that take less memory, on a GPU: they follow AdamW, and what they hold is counted.

``python -m tests.benchmarks.gpu_checks.memory`` on a machine with a GPU.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import AdamW, Optimizer

from lmmcl.building.frozen_linear import hold_in_bits, unpacked
from lmmcl.optim.lean_adamw import LeanAdamW

SHAPE, STEPS, LR = (3_584, 18_944), 20, 1e-4
Make = Callable[[list[dict[str, Any]], dict[nn.Parameter, str]], Optimizer]
WAYS: dict[str, tuple[torch.dtype, Make]] = {
    "adamw": (torch.float32, lambda groups, names: AdamW(groups, fused=True)),
    "adamw_8bit": (torch.float32, lambda groups, names: LeanAdamW(groups, names, moments="8bit")),
    "adamw_offload": (torch.float32, lambda groups, names: LeanAdamW(groups, names, moments="offloaded")),
    "bf16, kahan": (torch.bfloat16, lambda groups, names: LeanAdamW(groups, names, rounding="kahan")),
    "bf16, stochastic, 8bit": (
        torch.bfloat16,
        lambda groups, names: LeanAdamW(groups, names, rounding="stochastic", moments="8bit"),
    ),
}


def change(dtype: torch.dtype, make: Make) -> tuple[Tensor, float, int]:
    """What a matrix changes by, seconds of an update, and bytes on the device beside the gradient."""
    generator = torch.Generator("cuda").manual_seed(0)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    values = 0.02 * torch.randn(SHAPE, generator=generator, device="cuda")
    parameter = nn.Parameter(values.to(dtype))
    begun = parameter.detach().float().cpu().clone()
    del values
    optimizer = make([{"params": [parameter], "lr": LR, "weight_decay": 0.0}], {parameter: "p"})
    taken, mean = [], torch.randn(SHAPE, generator=generator, device="cuda")
    for _ in range(STEPS):
        parameter.grad = (mean + torch.randn(SHAPE, generator=generator, device="cuda")).to(dtype)
        torch.cuda.synchronize()
        start = time.perf_counter()
        optimizer.step()
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
        parameter.grad = None
    del mean
    held = torch.cuda.memory_allocated() - before
    return parameter.detach().float().cpu() - begun, statistics.median(taken[3:]), held


def check_frozen() -> None:
    """Layers in 8 and 4 bits give on a GPU what the weights that they stand for give."""
    for bits in (8, 4):
        model = nn.ModuleDict({"layer": nn.ModuleDict({"linear": nn.Linear(*SHAPE, bias=False)})}).cuda()
        hold_in_bits(model, ["layer"], {"layer.linear.weight"}, (), bits)
        linear = model.get_submodule("layer.linear")
        assert isinstance(linear, nn.Linear)
        given = torch.randn(512, SHAPE[0], device="cuda").requires_grad_()
        with torch.autocast("cuda", torch.bfloat16):
            found = linear(given)
            expected = functional.linear(given, unpacked(linear.weight, bits, SHAPE[0], torch.bfloat16))
        torch.testing.assert_close(found, expected)
        size = linear.weight.numel() / (SHAPE[0] * SHAPE[1])
        print(f"frozen_bits {bits}: {size:.2f} bytes a weight, equal to the weights that it stands for")


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit("skipped: there is no GPU")
    print(
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}, one matrix {SHAPE}, {STEPS} steps at {LR}"
    )
    reference: Tensor | None = None
    for name, (dtype, make) in WAYS.items():
        found, seconds, held = change(dtype, make)
        reference = found if reference is None else reference
        cosine = float(functional.cosine_similarity(found.flatten(), reference.flatten(), dim=0))
        ratio = float(found.norm() / reference.norm())
        each = held / found.numel()
        print(
            f"{name}: {each:.2f} bytes a parameter, {1e3 * seconds:.1f} ms, cosine {cosine:.3f}, norm {ratio:.3f}"
        )
        assert cosine > 0.97 and 0.97 < ratio < 1.03, name
    check_frozen()


if __name__ == "__main__":
    main()
