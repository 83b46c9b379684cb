"""What a run cost, as page and terminal show it."""

from __future__ import annotations

from collections.abc import Sequence

from lmmcl.cost import StageCost, total_cost
from lmmcl.report.clock import clock_text
from lmmcl.report.words import seconds_text, size_text


def cost_rows(costs: Sequence[StageCost]) -> list[tuple[str, ...]]:
    """The table of costs, with what they are in all."""
    return [_row(cost) for cost in [*costs, *([total_cost(costs)] if costs else [])]]


def _row(cost: StageCost) -> tuple[str, ...]:
    phase = {"train": "training", "evaluate": "measuring"}[cost.phase]
    total = cost.name == "total"
    return (
        "total" if total else cost.name,
        "" if total else phase,
        seconds_text(cost.seconds),
        f"{cost.samples:,}",
        f"{cost.tokens:,}",
        size_text(cost.flops, "FLOP"),
        size_text(cost.peak_memory_bytes, "B"),
    )


def cost_words(costs: Sequence[StageCost]) -> str:
    """``4.1 min, 8,200 samples, 3.1 TFLOP, at most 1.2 GB``."""
    if not costs:
        return ""
    total = total_cost(costs)
    return (
        f"{seconds_text(total.seconds)}, {total.samples:,} samples, {size_text(total.flops, 'FLOP')}, "
        f"at most {size_text(total.peak_memory_bytes, 'B')}"
    )


def cost_line(costs: Sequence[StageCost]) -> str:
    """What a run cost, in one line: training, measuring, operations and memory; empty if it was not metered."""
    if not costs:
        return ""
    parts = []
    for phase, what, unit in (("train", "training", "samples"), ("evaluate", "measuring", "answers")):
        total = total_cost([cost for cost in costs if cost.phase == phase])
        parts.append(f"{what} {clock_text(total.seconds)}, {total.samples:,} {unit}, {total.tokens:,} tokens")
    total = total_cost(costs)
    memory = f"at most {total.peak_memory_bytes / 2**30:.1f} GiB a process"
    return f"cost: {'; '.join(parts)}; {_power(total.flops)}FLOP; {memory}"


def _power(number: float) -> str:
    """Three digits and the prefix of the unit: ``1.23 peta``."""
    for prefix, size in (("exa", 1e18), ("peta", 1e15), ("tera", 1e12), ("giga", 1e9), ("mega", 1e6)):
        if number >= size:
            return f"{number / size:.3g} {prefix}"
    return f"{number:.3g} "
