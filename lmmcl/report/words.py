"""What a run learned and forgot, in a sentence; numbers as the page writes them."""

from collections.abc import Sequence
from pathlib import Path

from lmmcl.evaluation.summary import Estimate, Summary
from lmmcl.report.run_data import RunData
from lmmcl.report.style import signed

_SMALL = (
    "no",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
)

HEADLINES = (
    ("target_learning", "Target learning", "each target at its own stage, against the base model"),
    ("target_forgetting", "Target forgetting", "earlier targets at the end, against their own stage"),
    ("held_out_change", "Held-out change", "held-out tasks at the end, against the base model"),
    ("recovery", "Recovery", "what came back since the worst stage of the held-out tasks"),
)
FURTHER = (
    ("target_overall", "Target overall", "mean of S[T][t] − S[0][t]: what is left of the gains at the end"),
    ("worst_held_out_change", "Worst held-out change", "held-out change at its worst stage"),
    ("average_accuracy", "Average accuracy (ACC)", "mean of S[T][t]"),
    ("backward_transfer", "Backward transfer (BWT)", "mean over t < T of S[T][t] − S[t][t]"),
    ("forward_transfer", "Forward transfer (FWT)", "mean over t > 1 of S[t−1][t] − S[0][t]"),
    ("forgetting_measure", "Forgetting measure", "mean over t < T of the best earlier score less S[T][t]"),
    ("mean_finetune_accuracy", "MFT", "mean of S[t][t], each target right after its stage"),
    ("mean_final_accuracy", "MFN", "mean of S[T][t], as ACC"),
    ("mean_average_accuracy", "MAA", "mean over stages of the mean of the targets seen so far"),
)


def count_word(number: int, noun: str) -> str:
    """``five tasks``, ``one task``, ``13 tasks``."""
    said = _SMALL[number] if number < len(_SMALL) else str(number)
    return f"{said} {noun}{'' if number == 1 else 's'}"


def interval_text(estimate: Estimate, signs: bool = True) -> str:
    """``[−3.1, +0.4]``; empty where it is not defined."""
    if not estimate.defined:
        return ""
    low, high = (signed(value, 1) if signs else f"{value:.1f}" for value in (estimate.low, estimate.high))
    return f"[{low}, {high}]"


def listed(words: Sequence[str], most: int = 12) -> str:
    """``a, b and c``."""
    shown = [word.replace("_", " ") for word in words[:most]]
    if len(words) > most:
        shown.append(f"{len(words) - most} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def clear(estimate: Estimate) -> bool:
    """Whether the interval leaves zero out."""
    return estimate.defined and not estimate.low <= 0 <= estimate.high


def sentence(run: RunData) -> str:
    """What a run learned and forgot, in one sentence that says nothing its intervals do not bear."""
    summary = run.summary
    if summary is None:
        return (
            "Only the base model is measured so far."
            if not run.done
            else "Some targets were left out of a stage, so learning and forgetting cannot be summed up."
        )
    parts = [_learned(run, summary)]
    if "held_out_change" in summary.estimates:
        parts.append(_held_out(run, summary))
    return f"{', '.join(parts[:-1])}, and {parts[-1]}." if len(parts) > 1 else f"{parts[0]}."


def _learned(run: RunData, summary: Summary) -> str:
    learning, forgetting = summary["target_learning"], summary["target_forgetting"]
    number = run.done
    tasks = count_word(number, "target").capitalize()
    size = signed(learning.value, 1)
    each = " on average" if number > 1 else ""
    taught = "at their own stages" if number > 1 else "at its own stage"
    verb = "gained" if learning.value > 0 else "changed by"
    said = (
        f"{tasks} {verb} {size.lstrip('+')} points{each} {taught}"
        if clear(learning)
        else f"{tasks} did not clearly learn ({size} points{each})"
    )
    if not forgetting.defined:
        return said
    if not clear(forgetting):
        return f"{said}, the earlier ones have kept theirs"
    if forgetting.value < 0:
        return f"{said}, the earlier ones have lost {abs(forgetting.value):.1f} since"
    return f"{said}, the earlier ones have gained {forgetting.value:.1f} more since"


def _held_out(run: RunData, summary: Summary) -> str:
    change = summary["held_out_change"]
    tasks = f"the {count_word(len(run.held_out), 'held-out task')}"
    if not clear(change):
        said = f"{tasks} did not clearly change ({signed(change.value, 1)})"
    elif change.value < 0:
        said = f"{tasks} lost {abs(change.value):.1f}"
    else:
        said = f"{tasks} gained {change.value:.1f}"
    back = summary["recovery"]
    if summary.worst_stage is None or summary.worst_stage == summary.stages or back.value < 0.05:
        return said
    worst = signed(summary["worst_held_out_change"].value, 1)
    after = run.stage_name(summary.worst_stage).replace("_", " ")
    return f"{said}, {back.value:.1f} better than at their worst ({worst}, after {after})"


def beside(figures: Path | None, tables: Path) -> str:
    """Where a page's figures and tables lie, in words; figures that there are none of are not named."""
    if figures is None:
        return f"Tables lie beside this file: {tables.name}/"
    return f"Figures and tables lie beside this file: {figures.name}/ and {tables.name}/"


def seconds_text(seconds: float) -> str:
    """``48 s``, ``3.5 min``, ``2.1 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def size_text(value: float, unit: str) -> str:
    """A large number with its prefix: ``1.2 GB``, ``3.4 PFLOP``."""
    for prefix in ("", "k", "M", "G", "T", "P", "E"):
        if abs(value) < 1000 or prefix == "E":
            return (
                f"{value:.0f} {prefix}{unit}" if value >= 100 or not prefix else f"{value:.1f} {prefix}{unit}"
            )
        value /= 1000
    raise AssertionError("unreachable")
