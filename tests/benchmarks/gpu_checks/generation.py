"""Caches of generation on a GPU: the reserved one has the bits of transformers' own; pace and memory beside two others.

``python -m tests.benchmarks.gpu_checks.generation`` on a machine with a GPU; flash attention too, if installed.
"""

import statistics
import sys

import torch
from transformers.utils import is_flash_attn_2_available

from tests.benchmarks.generation_caches import (
    BATCH,
    NEW_TOKENS,
    PROMPTS,
    WAYS,
    Decoder,
    Said,
    ask,
    check,
    prompts,
    static,
)
from tests.benchmarks.machine import machine

ROUNDS = 5
COMPILED = "StaticCache, compiled"


def compare(decoder: Decoder, length: int) -> None:
    """Prints a row for every cache; the first round compiles and warms up.

    Raises:
        SystemExit: ours does not give the bits of the dynamic cache.
    """
    model, inputs = decoder.model(), prompts(length, decoder.device)
    ways = WAYS | {COMPILED: lambda model: static(model, compiled=True)}
    found: dict[str, list[Said]] = {name: [] for name in ways}
    allocated: dict[str, int] = {}
    reserved: dict[str, int] = {}
    for _ in range(1 + ROUNDS):
        for name, way in ways.items():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
            found[name].append(ask(model, inputs, way(model)))
            allocated[name] = torch.cuda.max_memory_allocated() - before[0]
            reserved[name] = torch.cuda.max_memory_reserved() - before[1]
    same = check(length, {name: said[-1] for name, said in found.items()})
    for name, said in found.items():
        ratio = statistics.median(a.pace / b.pace for a, b in zip(said, found["DynamicCache"], strict=True))
        pace = statistics.median(one.pace for one in said[1:])
        numbers = f"{pace:.0f} | {ratio:.2f} | {allocated[name] / 2**20:.0f} | {reserved[name] / 2**20:.0f}"
        print(f"| {decoder.attention} | {length} | {name} | {numbers} |", flush=True)
    print(f"| {decoder.attention} | {length} | tokens of StaticCache that are equal | {same:.1%} | | | |")


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit("skipped: there is no GPU")
    print(f"{torch.cuda.get_device_name()}: batches of {BATCH}, {NEW_TOKENS} new tokens, bf16\n")
    print(
        "| attention | prompt | cache | decoding, tokens/s | to DynamicCache | allocated, MiB | reserved, MiB |"
    )
    print("|---|---|---|---|---|---|---|")
    for attention in ("sdpa", *(["flash_attention_2"] if is_flash_attn_2_available() else [])):
        for length in PROMPTS:
            compare(
                Decoder(4, heads=28, layers=8, dtype="bfloat16", device="cuda", attention=attention), length
            )
    print(f"\npassed: the same bits; {machine('transformers')}")


if __name__ == "__main__":
    main()
