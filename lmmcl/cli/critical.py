"""Exit code 3: rows marked ``critical: true`` that were right with the base model and are wrong now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from lmmcl.evaluation.flipped_examples import FlippedExample, flipped_examples
from lmmcl.evaluation.predictions import PredictionStore
from lmmcl.evaluation.result import TaskResult

CRITICAL = 3
"""Exit code of a command that did all it was asked to and found a critical row flipped."""
HELP = (
    "Exit code 3: all went well, but a row marked critical: true in its data, which the base model had right, is wrong "
    "now; such rows are listed."
)
_SHOWN = 20


def critical_exit(flipped: Sequence[FlippedExample], console: Console | None = None) -> int:
    """Lists the critical rows that were lost and gives the exit code of the command.

    Args:
        flipped: flipped answers, of which those that are critical and lost count.
        console: where the list is printed; None: the standard error.

    Returns:
        3 if there are any, else 0.
    """
    lost = [one for one in flipped if one.critical and one.direction == "lost"]
    if not lost:
        return 0
    console = console or Console(stderr=True)
    rows = "1 critical row was" if len(lost) == 1 else f"{len(lost)} critical rows were"
    console.print(
        f"[bold red]{rows} right with the base model and {'is' if len(lost) == 1 else 'are'} wrong now:[/]"
    )
    for one in lost[:_SHOWN]:
        console.print(f"  {_line(one)}", highlight=False, soft_wrap=True)
    if len(lost) > _SHOWN:
        console.print(f"  ... and {len(lost) - _SHOWN} more", highlight=False)
    return CRITICAL


def critical_exit_of_results(results: Mapping[str, TaskResult], run: Path, base: str = "00-base") -> int:
    """`critical_exit` for results that were measured apart from their run.

    Args:
        results: by task, of the present model.
        run: the folder that holds the base model's predictions; rows that it did not measure cannot be compared, and
            the standard error says how many of the critical ones they are.
        base: name of the base model's stage.
    """
    if not any(example.critical for result in results.values() for example in result.examples):
        return 0
    store = PredictionStore(run / "predictions")
    flipped: list[FlippedExample] = []
    alone = 0
    for task, result in results.items():
        try:
            before = store.read(base, task)
        except FileNotFoundError:
            before = TaskResult(task, ())
        known = {example.id for example in before.examples}
        alone += sum(example.critical and example.id not in known for example in result.examples)
        flipped += flipped_examples(before, result)
    if alone:
        rows = "1 critical row has" if alone == 1 else f"{alone} critical rows have"
        Console(stderr=True).print(
            f"{rows} no answer of the base model in {run / 'predictions'} to be compared with.",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )
    return critical_exit(flipped)


def _line(one: FlippedExample) -> str:
    asked = f" {_short(one.question)!r}" if one.question else ""
    said = f"{_short(one.before)!r} -> {_short(one.after)!r}"
    return escape(f"{one.task}/{one.id}{asked}: {said}, gold {_short(str(one.gold))!r} ({one.cause})")


def _short(text: str, most: int = 80) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= most else f"{flat[: most - 3]}..."
