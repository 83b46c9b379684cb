"""What WiSE-FT's mixing costs in memory: `lmmcl.weights.mix_` beside `copy_` of the same fp32 tensors, in alternation.

Both write into tensors that are there. Mixing is to take at most 1.3 times as long as copying. As many tensors, and
of such shapes, as a decoder of a billion parameters has; two sets of them take 8 bytes a parameter.

    python -m tests.benchmarks.wise_ft [--billions 1] [--rounds 5]
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from lmmcl.weights import copy_, mix_
from tests.benchmarks.machine import machine

ALPHA = 0.3
WIDTH, HIDDEN = 2048, 8192
LAYER = {"q": (WIDTH, WIDTH), "k": (512, WIDTH), "v": (512, WIDTH), "o": (WIDTH, WIDTH), "norm": (WIDTH,)}
LAYER |= {"gate": (HIDDEN, WIDTH), "up": (HIDDEN, WIDTH), "down": (WIDTH, HIDDEN)}


def tensors(parameters: int, value: float) -> dict[str, Tensor]:
    """Whole layers until there are so many parameters."""
    made: dict[str, Tensor] = {}
    while sum(tensor.numel() for tensor in made.values()) < parameters:
        layer = len(made) // len(LAYER)
        made |= {f"{layer}.{name}": torch.full(shape, value) for name, shape in LAYER.items()}
    return made


def seconds(work: Callable[[], None]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def check(mixed: Mapping[str, Tensor], expected: float) -> None:
    """Raises SystemExit if a value is not what the formula says."""
    for name, tensor in mixed.items():
        if not torch.allclose(tensor.flatten()[[0, -1]], torch.tensor(expected)):
            raise SystemExit(f"{name} is not mixed: {tensor.flatten()[0]} instead of {expected}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--billions", type=float, default=1.0, help="of parameters")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    new, previous = (tensors(round(arguments.billions * 1e9), value) for value in (1.0, 2.0))
    mix_(new, previous, ALPHA)
    check(new, 1.0 + ALPHA)
    ratios = []
    for turn in range(arguments.rounds):
        ways: list[Callable[[], None]] = [
            lambda: copy_(new, previous),
            lambda: mix_(new, previous, ALPHA),
        ]
        found = {way: seconds(ways[way]) for way in ((0, 1) if turn % 2 == 0 else (1, 0))}
        ratios.append(found[1] / found[0])
        print(f"round {turn + 1}: copying {found[0]:.3f} s, mixing {found[1]:.3f} s", flush=True)
    count = sum(tensor.numel() for tensor in new.values())
    print(
        f"mixing / copying, {count / 1e9:.2f} B fp32 parameters, median of {arguments.rounds} rounds: "
        f"{statistics.median(ratios):.2f} (at most 1.3)"
    )
    print(machine())


if __name__ == "__main__":
    main()
