"""Liger's kernel against the plain path: losses, gradients, time and memory of a head of 152,064 words.

``python -m tests.benchmarks.gpu_checks.liger`` on a machine with a GPU and ``lmmcl[gpu]``.
"""

import statistics
import sys
import time

import torch
from torch import nn

from lmmcl.losses import cross_entropy
from lmmcl.outputs.liger import installed
from lmmcl.outputs.token_outputs import TokenOutputs

WORDS, WIDTH, TOKENS, ROUNDS = 152_064, 3_584, 600, 7


def step(head: nn.Linear, hidden: torch.Tensor, labels: torch.Tensor, liger: bool) -> torch.Tensor:
    """Loss of a forward and a backward."""
    hidden.grad = None
    with torch.autocast("cuda", torch.bfloat16):
        frozen = not head.weight.requires_grad
        outputs = TokenOutputs(hidden, labels, labels, head, WORDS, frozen=frozen, liger=liger)
        loss = outputs.map(cross_entropy).sum() / TOKENS
    loss.backward()
    return loss.detach()


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit("skipped: there is no GPU")
    if not installed():
        sys.exit("skipped: liger-kernel is not installed (pip install 'lmmcl[gpu]')")
    torch.manual_seed(0)
    head = nn.Linear(WIDTH, WORDS, bias=False, device="cuda", dtype=torch.bfloat16).requires_grad_(False)
    hidden = torch.randn(TOKENS, WIDTH, device="cuda", dtype=torch.bfloat16).requires_grad_()
    labels = torch.randint(0, WORDS, (TOKENS,), device="cuda")
    losses, gradients = {}, {}
    times: dict[bool, list[float]] = {True: [], False: []}
    peaks = {}
    for _ in range(ROUNDS):
        for liger in (True, False):
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before, begun = torch.cuda.memory_allocated(), time.perf_counter()
            losses[liger] = step(head, hidden, labels, liger)
            torch.cuda.synchronize()
            times[liger].append(time.perf_counter() - begun)
            peaks[liger] = torch.cuda.max_memory_allocated() - before
            assert hidden.grad is not None
            gradients[liger] = hidden.grad.float()
    apart = (gradients[True] - gradients[False]).norm() / gradients[False].norm()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {TOKENS} tokens, {WORDS} words")
    for liger in (True, False):
        name = "liger" if liger else "plain"
        median = 1e3 * statistics.median(times[liger][2:])
        print(f"{name}: loss {float(losses[liger]):.6f}, {median:.2f} ms, {peaks[liger] / 2**20:.0f} MiB")
    print(f"gradients differ by {float(apart):.2e} of their norm")
    torch.testing.assert_close(losses[True], losses[False], rtol=1e-5, atol=1e-5)
    assert float(apart) < 5e-3, "more than rounding to bf16"


if __name__ == "__main__":
    main()
