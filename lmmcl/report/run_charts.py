"""The line charts of one run: scores over stages, training, answers that could not be read, choices."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lmmcl.evaluation.choices import Choice
from lmmcl.evaluation.matrix import Stage
from lmmcl.report.chart import Chart, Line, Note
from lmmcl.report.run_data import RunData
from lmmcl.report.style import signed

_NAMED = 9
"""So many lines can be told apart."""


def _stage_ticks(run: RunData) -> list[tuple[float, str]]:
    """Stages by name, or by number where names would not fit."""
    names = [run.stage_name(stage.index) for stage in run.matrix.finals]
    wide = sum(len(name) + 1 for name in names) > 52
    return [(float(k), str(k) if wide and k else name) for k, name in enumerate(names)]


def _stages_title(run: RunData) -> str:
    return "stage" if _stage_ticks(run)[-1][1].isdecimal() else "after each task"


def target_curves(run: RunData) -> Chart | None:
    """Every target's score; dashed before its own stage."""
    tasks = run.matrix.measured(run.matrix.targets)
    if not tasks or not run.done:
        return None
    scores = run.matrix.scores(tasks)
    lines = []
    for column, task in zip(scores.T, tasks, strict=True):
        position = list(run.matrix.targets).index(task)
        own = position + 1 if position < run.done else None
        lines.append(Line(task, _steps(len(scores)), column.tolist(), colour=position, solid_from=own))
    return Chart(
        "targets",
        "Targets",
        "Score after every stage; a mark where a target was trained, dashed before.",
        lines,
        unit="score",
        x_title=_stages_title(run),
        ticks=_stage_ticks(run),
        bounds=(0.0, 100.0),
    )


def held_out_curves(run: RunData) -> Chart | None:
    """Every held-out task's change, their mean with its band, its worst stage and what came back."""
    if not run.held_out or not run.done:
        return None
    scores = run.matrix.scores(run.held_out)
    change = scores - scores[:1]
    mean = change.mean(axis=1)
    x = _steps(len(scores))
    lines = [
        Line(task, x, column.tolist(), weight="faint")
        for task, column in zip(run.held_out, change.T, strict=True)
    ]
    curve = run.summary.held_out_curve if run.summary is not None else ()
    known = len(curve) == len(mean)
    low = [point.low for point in curve] if known else []
    high = [point.high for point in curve] if known else []
    lines.append(Line("mean", x, mean.tolist(), low, high, weight="bold"))
    worst, last = 1 + int(np.argmin(mean[1:])), len(mean) - 1
    marked = Note(x[worst], float(mean[worst]), f"worst {signed(mean[worst], 1)}", "loss")
    notes = [marked] if last > 1 else []  # a single stage is no worst one
    back = float(mean[last] - mean[worst])
    reach = max(5.0, float(np.abs(change).max()))
    if last > worst and back > 0.04 * reach:
        notes.append(
            Note(x[last], float(mean[worst]), f"{signed(back, 1)} came back", "gain", back=float(mean[last]))
        )
    bottom, top = min(-5.0, float(change.min())), max(0.0, float(change.max()))
    return Chart(
        "held_out",
        "Held-out tasks",
        "Change from the base model in points; bold: the mean and its 95\u00a0% interval.",
        lines,
        unit="points",
        x_title=_stages_title(run),
        ticks=_stage_ticks(run),
        bounds=(bottom - 0.12 * reach, top + 0.06 * reach),
        zero=True,
        notes=notes,
    )


def _steps(count: int) -> list[float]:
    return [float(k) for k in range(count)]


def training_charts(run: RunData) -> list[Chart]:
    """The training loss and, where the canary sang, loss and divergence on held-out prompts."""
    charts = []
    for column, title, about, unit in (
        ("loss", "Training loss", "Mean over the answer tokens of each step's samples.", "nats"),
        (
            "held_out_kl",
            "Divergence on held-out prompts",
            "KL of the base model's next-token distribution from the present one, on a few held-out answers.",
            "nats",
        ),
        ("held_out_loss", "Loss on held-out answers", "Of the gold answers to the same prompts.", "nats"),
    ):
        values = run.log.get(column)
        pairs = [
            (float(step), float(value))
            for step, value in zip(run.log.get("step", ()), values or (), strict=False)
            if value is not None and step is not None
        ]
        if len(pairs) < 2:
            continue
        xs, ys = zip(*pairs, strict=True)
        line = Line("", xs, ys, colour=0 if column == "loss" else 1)
        rules = run.stage_ends[:-1]
        charts.append(
            Chart(
                column,
                title,
                about,
                [line],
                unit,
                "training on",
                run.stage_spans,
                rules,
                (0.0, 1.08 * max(ys)),
            )
        )
    return charts


def unreadable_chart(run: RunData) -> Chart | None:
    """The share of answers that no parser could read, over stages; None where every answer was read."""
    stages = run.matrix.finals
    shares = {task: [_unparsed(stage, task) for stage in stages] for task in run.matrix.tasks}
    some = {task: found for task, found in shares.items() if np.nanmax([0.0, *found]) > 0}
    if not some or len(stages) < 2:
        return None
    worst = sorted(some, key=lambda task: -float(np.nanmax(some[task])))[: _NAMED - 1]
    lines = [
        Line(task, _steps(len(stages)), some[task], colour=i, dots=True)
        for i, task in enumerate(task for task in some if task in worst)
    ]
    more = f" The {len(worst)} tasks with most are shown." if len(some) > len(worst) else ""
    return Chart(
        "unreadable",
        "Answers that could not be read",
        f"Share of a task's answers that its scorer could not read, in per cent.{more}",
        lines,
        unit="%",
        x_title=_stages_title(run),
        ticks=_stage_ticks(run),
        bounds=(0.0, max(5.0, 1.06 * max(max(line.y) for line in lines))),
    )


def _unparsed(stage: Stage, task: str) -> float:
    return 100 * stage.cells[task].unparsed if task in stage.cells else float("nan")


def choice_charts(run: RunData) -> list[Chart]:
    """All choices of a run."""
    charts = [choice_chart(callback, choice) for callback, found in run.choices.items() for choice in found]
    return [chart for chart in charts if chart is not None]


def choice_chart(callback: str, choice: Choice) -> Chart | None:
    """What a callback tried on ``dev`` rows after a stage; None where it tried fewer than two ways."""
    tasks = list(dict.fromkeys(task for one in choice.candidates for task in one["scores"]))
    if len(choice.candidates) < 2 or not tasks:
        return None
    names = [candidate_name(one) for one in choice.candidates]
    alphas = [one.get("alpha") for one in choice.candidates]
    by_alpha = all(isinstance(alpha, int | float) for alpha in alphas) and len(set(alphas)) == len(alphas)
    places = [float(alpha) for alpha in alphas if alpha is not None] if by_alpha else _steps(len(names))
    order = sorted(range(len(places)), key=lambda k: places[k])
    xs = [places[k] for k in order]
    nan = float("nan")
    few = len(tasks) <= _NAMED
    columns = {task: [float(choice.candidates[k]["scores"].get(task, nan)) for k in order] for task in tasks}
    lines = [
        Line(task, xs, ys, colour=i if few else None, dots=few, weight="plain" if few else "faint")
        for i, (task, ys) in enumerate(columns.items())
    ]
    if len(tasks) > 1:
        lines.append(Line("mean", xs, np.mean(list(columns.values()), axis=0).tolist(), weight="bold"))
    return Chart(
        f"choice_{callback}_{choice.name}",
        f"{callback} after {choice.name.partition('-')[2].replace('_', ' ') or choice.name}",
        f"Scores on dev rows of what it tried; it took {names[choice.chosen]}, at the vertical line.",
        lines,
        unit="score",
        x_title="alpha" if by_alpha else "",
        ticks=[(x, names[k].removeprefix("alpha ")) for x, k in zip(xs, order, strict=True)],
        rules=[places[choice.chosen]],
    )


def candidate_name(candidate: Mapping[str, Any]) -> str:
    """What a candidate is told by: ``alpha 0.3``, ``step 40``."""
    told = {
        name: value
        for name, value in candidate.items()
        if name != "scores" and isinstance(value, str | int | float)
    }
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in told.items()
    )
