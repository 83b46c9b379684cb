"""What the terminal shows: a small table after every stage; the matrix and the four numbers at the end."""

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.color import Color
from rich.console import Group, RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from lmmcl.cost import StageCost
from lmmcl.evaluation.matrix import Matrix, Stage
from lmmcl.evaluation.summary import Estimate, Summary
from lmmcl.report.cost_view import cost_line

LOSS, PLAIN, GAIN = (217, 116, 43), (247, 246, 243), (63, 143, 196)
_REACH = 40.0
_STAGE_WIDTH = 8
HEADLINES = {
    "target_learning": "each target at its own stage",
    "target_forgetting": "earlier targets, since then",
    "target_overall": "all targets, at the end",
    "held_out_change": "held-out tasks, at the end",
}


def signed(change: float) -> str:
    """A change in points with its sign; none before a zero."""
    text = f"{change:+.1f}"
    return text.lstrip("+-") if float(text) == 0 else text


def _changed(change: float | None) -> Text:
    if change is None:
        return Text("-", style="dim", justify="right")
    style = "" if signed(change) == "0.0" else ("rgb(63,143,196)" if change > 0 else "rgb(217,116,43)")
    return Text(signed(change), style=style, justify="right")


def _shade(change: float) -> Style:
    """A cell's colours: the farther from the base model the stronger, blue gains and orange losses."""
    share = min(1.0, abs(change) / _REACH)
    end = GAIN if change > 0 else LOSS
    red, green, blue = (round(p + share * (e - p)) for p, e in zip(PLAIN, end, strict=True))
    return Style(color=Color.from_rgb(16, 18, 22), bgcolor=Color.from_rgb(red, green, blue))


def _mean(stage: Stage, tasks: Sequence[str]) -> float | None:
    if not tasks or any(task not in stage.cells for task in tasks):
        return None
    return sum(stage.cells[task].score for task in tasks) / len(tasks)


def _score(stage: Stage | None, task: str) -> float | None:
    return stage.cells[task].score if stage is not None and task in stage.cells else None


def _less(now: float | None, before: float | None) -> float | None:
    return None if now is None or before is None else now - before


def _groups(matrix: Matrix) -> Iterator[tuple[str, Sequence[str]]]:
    yield from (
        (name, tasks) for name, tasks in (("targets", matrix.targets), ("held-out", matrix.held_out)) if tasks
    )


def stage_table(matrix: Matrix, name: str, variant: str = "") -> RenderableType:
    """One stage: each task's score, its change from the base model and the stage before, unreadable answers.

    It fits 80 columns; ``*`` marks the task the stage trained, so that it reads without colour, too.

    Args:
        matrix: holds the stage.
        name: the stage's name.
        variant: of the stage.
    """
    stage = next(stage for stage in matrix.stages if (stage.name, stage.variant) == (name, variant))
    earlier = [other for other in matrix.finals if other.index < stage.index]
    base, last = (earlier[0], earlier[-1]) if earlier else (None, None)
    unread = any(cell.unparsed > 0 for cell in stage.cells.values())
    table = Table(
        box=SIMPLE_HEAD,
        title=f"after {stage.title}" if stage.index else "base model",
        title_justify="left",
        title_style="bold",
        pad_edge=False,
    )
    table.add_column("task", no_wrap=True, overflow="ellipsis", max_width=24)
    for head in ("score", *(("vs base", "vs last") if earlier else ()), *(("unreadable",) if unread else ())):
        table.add_column(head, justify="right", no_wrap=True)

    def line(label: Text, now: float | None, *before: float | None, unparsed: float = 0.0) -> None:
        score = "-" if now is None else f"{now:.1f}"
        changes = [_changed(_less(now, value)) for value in before] if earlier else []
        share = [Text(f"{100 * unparsed:.1f} %", style="yellow") if unparsed else Text("")] if unread else []
        table.add_row(label, score, *changes, *share)

    for group, tasks in _groups(matrix):
        for task in tasks:
            if (cell := stage.cells.get(task)) is not None:
                trained = task == stage.trained
                label = Text(f"{task} *" if trained else task, style="bold" if trained else "")
                line(label, cell.score, _score(base, task), _score(last, task), unparsed=cell.unparsed)
        means = [None if other is None else _mean(other, tasks) for other in (stage, base, last)]
        line(Text(f"mean of {group}", style="italic"), *means)
        table.add_section()
    return table


def _interval(estimate: Estimate) -> tuple[str, str]:
    if not estimate.defined:
        return "-", "needs two targets"
    return signed(estimate.value), f"[{signed(estimate.low)}, {signed(estimate.high)}]"


def numbers_table(summary: Summary) -> RenderableType:
    """The four numbers a run ends with and their 95 % intervals, in points."""
    table = Table(
        box=SIMPLE_HEAD,
        pad_edge=False,
        title="learning and forgetting",
        title_justify="left",
        title_style="bold",
    )
    table.add_column("", no_wrap=True)
    for head in ("points", "95 % interval"):
        table.add_column(head, no_wrap=True, justify="right")
    table.add_column("", style="dim", overflow="fold")
    for name, meaning in HEADLINES.items():
        if name in summary.estimates:
            value, interval = _interval(summary[name])
            number = Text(value, style="bold")
            table.add_row(name.replace("_", " ").replace("held out", "held-out"), number, interval, meaning)
    if summary.worst_stage is not None and summary.stages > 1:
        worst, between = _interval(summary["worst_held_out_change"])
        table.add_row("  at its worst", worst, between, f"after stage {summary.worst_stage}")
        table.add_row("  recovered since", *_interval(summary["recovery"]), "")
    return table


def matrix_table(matrix: Matrix, width: int = 80) -> RenderableType:
    """Tasks by stages: scores, coloured by their change from the base model; ``*`` marks what was trained.

    Where not all stages fit, the base model and the newest ones are shown.

    Args:
        matrix: at least the base model.
        width: of the terminal, in columns.
    """
    longest = min(20, max(len(task) for task in [*matrix.tasks, "held-out change"]))
    room = max(2, (width - longest - 1) // (_STAGE_WIDTH + 1))
    shown = matrix.finals if len(matrix.finals) <= room else [matrix.finals[0], *matrix.finals[1 - room :]]
    left_out = len(matrix.finals) - len(shown)
    table = Table(
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title="scores after every stage" + (f" ({left_out} stages left out)" if left_out else ""),
        title_justify="left",
        title_style="bold",
        caption="* the task just trained; colour: change from the base model",
        caption_justify="left",
    )
    table.add_column("", no_wrap=True, overflow="ellipsis", width=longest)
    for stage in shown:
        head = "base" if stage.index == 0 else stage.trained or stage.name
        table.add_column(head, justify="right", no_wrap=True, overflow="ellipsis", width=_STAGE_WIDTH)
    base = matrix.finals[0]
    for group, tasks in _groups(matrix):
        for task in tasks:
            table.add_row(task, *(_matrix_cell(stage, base, task) for stage in shown))
        table.add_section()
        changes = [_less(_mean(stage, tasks), _mean(base, tasks)) for stage in shown]
        table.add_row(Text(f"{group} change", style="italic"), *(_changed(change) for change in changes))
        table.add_section()
    return table


def _matrix_cell(stage: Stage, base: Stage, task: str) -> Text:
    score = _score(stage, task)
    if score is None:
        return Text("-", style="dim")
    change = _less(score, _score(base, task)) or 0.0
    trained = task == stage.trained
    style = _shade(change) + Style(bold=trained)
    return Text(f"{'*' if trained else ''}{score:.1f}".rjust(_STAGE_WIDTH), style=style)


def unreadable(matrix: Matrix, named: int = 5) -> str:
    """Which answers could not be read, and when: a lost format looks like forgetting in the scores, and is not.

    Args:
        matrix: of the run.
        named: so many tasks are named, those with the most unreadable answers.

    Returns:
        Such as ``could not be read: chart 12.0 % after stage 2 (base 1.0 %), count 3.0 % in the base model``, each
        task at its worst stage, the first of equals; empty where every answer was read.
    """
    worst = []
    for task in matrix.tasks:
        shares = {stage.index: stage.cells[task].unparsed for stage in matrix.finals if task in stage.cells}
        at = max(shares, key=lambda index: (shares[index], -index), default=0)
        if shares.get(at):
            base = f" (base {100 * shares[0]:.1f} %)" if at and shares.get(0) else ""
            when = f"after stage {at}{base}" if at else "in the base model"
            worst.append((shares[at], f"{task} {100 * shares[at]:.1f} % {when}"))
    worst.sort(key=lambda pair: -pair[0])
    texts = [text for _, text in worst[:named]]
    if len(worst) > named:
        texts.append(f"{len(worst) - named} more in matrix.csv")
    return f"could not be read: {', '.join(texts)}" if texts else ""


def final_summary(
    matrix: Matrix, summary: Summary, width: int = 80, costs: Sequence[StageCost] = ()
) -> RenderableType:
    """What a run ends with: the matrix, the four numbers with their intervals, what flipped and what was unreadable.

    Args:
        matrix: of the run.
        summary: of the run.
        width: of the terminal, in columns.
        costs: of the run, see `lmmcl.cost.read_cost`.
    """
    parts: list[RenderableType] = [matrix_table(matrix, width), "", numbers_table(summary)]
    if "held_out_lost" in summary.estimates:
        lost, gained = (summary[f"held_out_{name}"] for name in ("lost", "gained"))
        parts.append(
            Text(
                f"held-out answers: {lost.value:.1f} % [{lost.low:.1f}, {lost.high:.1f}] went from right to wrong, "
                f"{gained.value:.1f} % [{gained.low:.1f}, {gained.high:.1f}] from wrong to right"
            )
        )
    if unread := unreadable(matrix):
        parts.append(Text(unread, style="yellow"))
    if cost := cost_line(costs):
        parts.append(Text(cost, style="dim"))
    if critical := summary.critical_flips:
        parts.append(
            Text(f"critical answers lost ({len(critical)}): {', '.join(critical[:10])}", style="bold red")
        )
    return Group(*parts)
