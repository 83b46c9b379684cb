"""Several runs to be compared: what they have in common, what sets them apart, and what must be said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lmmcl.cost import StageCost, read_cost, total_cost
from lmmcl.errors import UserError
from lmmcl.evaluation.across_runs import SEEDS, AcrossRuns, RunSet, pareto_front
from lmmcl.evaluation.matrix import Matrix
from lmmcl.evaluation.paired_test import PairedTest, paired_test
from lmmcl.evaluation.probe_correlation import ProbeCorrelation, held_out_changes, probe_correlations
from lmmcl.evaluation.probe_log import read_probes
from lmmcl.evaluation.run_scores import RunScores, read_run_scores
from lmmcl.report.price import HELD_OUT, Price, price_of
from lmmcl.report.run_data import check_folder
from lmmcl.report.way_names import fighting, way_names

_RESAMPLES = 500
"""Of the runs, for the correlation of each of many series."""
_TESTS = 200
"""So many pairs of ways are tested; with more, each against the first one."""
LEARNED = "target_learning"


@dataclass(frozen=True)
class Way:
    """One way to train: runs that differ only in their seed.

    Args:
        name: made from what differs.
        members: positions of its runs among those compared.
        numbers: statistic -> mean and interval.
        costs: of each of its runs, in sum; None where a run has none.
        on_front: whether no other way both learns more and loses less, see `price`.
    """

    name: str
    members: Sequence[int]
    numbers: Mapping[str, AcrossRuns]
    costs: Sequence[StageCost | None]
    on_front: bool = False


@dataclass(frozen=True)
class WayTest:
    """The differences of some numbers between two ways, the second less the first."""

    first: str
    second: str
    tests: Sequence[PairedTest]


@dataclass(frozen=True)
class RunsData:
    """Several runs as their report sees them.

    Args:
        runs: finished ones that share targets and, where any measured one, a held-out task.
        names: of their folders, as short as tells them apart.
        ways: in the order of their first runs.
        tests: between ways, or, where one run stands for each, between runs.
        differing: setting -> its value in each way.
        notes: what a reader must know before the numbers.
        unfinished: folders that were left out, and how far they came.
        correlations: of every probe's series with the held-out change, over the stages of all runs.
    """

    runs: RunSet
    names: Sequence[str]
    ways: Sequence[Way]
    tests: Sequence[WayTest]
    differing: Mapping[str, Sequence[Any]]
    notes: Sequence[str]
    unfinished: Sequence[tuple[str, str]]
    correlations: Sequence[ProbeCorrelation] = ()


def read_runs(paths: Sequence[Path]) -> RunsData:
    """Reads and compares runs.

    Raises:
        UserError: a folder holds no run, is named twice, none is finished, or they taught different targets or have no
            held-out task in common.
    """
    if len({path.resolve() for path in paths}) < len(paths):
        raise UserError("report: every run must be named once, got one twice; leave it out.")
    names = short_names(paths)
    found: list[RunScores] = []
    kept: list[str] = []
    unfinished: list[tuple[str, str]] = []
    for path, name in zip(paths, names, strict=True):
        scores, reason = _read(path)
        if scores is None:
            unfinished.append((name, reason))
        else:
            found.append(scores)
            kept.append(name)
    if not found:
        said = "; ".join(f"{name}: {reason}" for name, reason in unfinished)
        raise UserError(f"report: a comparison needs a finished run, and none of these is ({said}).")
    found, notes = _in_common(found, kept)
    runs = RunSet(found)
    ways = _ways(runs)
    return RunsData(
        runs, kept, ways, _tests(runs, ways), _differing(runs, ways), notes, unfinished, _correlations(runs)
    )


def short_names(paths: Sequence[Path]) -> list[str]:
    """The folders' last parts, as many as tell them apart."""
    parts = [path.resolve().parts for path in paths]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _read(path: Path) -> tuple[RunScores | None, str]:
    """A finished run's scores, or how far it came."""
    check_folder(path)
    matrix = Matrix.load(path)
    done = len(matrix.finals) - 1
    if done < len(matrix.targets):
        return None, f"{done} of {len(matrix.targets)} stages measured"
    try:
        return read_run_scores(path), ""
    except UserError as error:
        return None, str(error).removeprefix(f"{path}: ")


def _in_common(runs: list[RunScores], names: Sequence[str]) -> tuple[list[RunScores], list[str]]:
    """The runs on the held-out tasks that all measured on the same examples, and what that left out."""
    first = runs[0]
    for run, name in zip(runs[1:], names[1:], strict=True):
        if set(run.targets) != set(first.targets):
            only = sorted(set(run.targets) ^ set(first.targets))
            raise UserError(
                f"report: runs are compared that taught the same targets, and {names[0]} and {name} differ in "
                f"{', '.join(only)}; report them apart."
            )
        for task in first.targets:
            if list(run.ids[task]) != list(first.ids[task]):
                raise UserError(
                    f"report: {names[0]} and {name} measured different examples of {task} ({len(first.ids[task])} and "
                    f"{len(run.ids[task])}); measure them on the same ones (data.max_eval_samples, "
                    "HeldOutEvaluation.part) or report them apart."
                )
    everything = list(dict.fromkeys(task for run in runs for task in run.held_out))
    if not everything:
        return runs, ["No run measured a held-out task: they are compared by their targets alone."]
    common = [
        task
        for task in everything
        if all(task in run.held_out and list(run.ids[task]) == list(first.ids[task]) for run in runs)
    ]
    if not common:
        raise UserError(
            "report: runs are compared by what they lost on common held-out tasks, and these have none in common "
            f"({', '.join(everything) or 'none was measured'}); add data.held_out, or report them apart."
        )
    notes = []
    if left := [task for task in everything if task not in common]:
        notes.append(
            f"Compared on the {len(common)} held-out tasks that all runs measured on the same examples. Left out: "
            f"{', '.join(left)}."
        )
    return [replace(run, held_out=common) for run in runs], notes


def _ways(runs: RunSet) -> list[Way]:
    groups = runs.groups(SEEDS)
    names = way_names([runs.runs[group.members[0]].settings for group in groups], SEEDS)
    price = price_of([group.numbers for group in groups])
    front: set[int] = set()
    if price is not None:
        points = [(one.numbers[LEARNED].value, one.numbers[price.statistic].value) for one in groups]
        front = set(pareto_front(points))
    return [
        Way(name, group.members, group.numbers, [_cost(runs.runs[i].run) for i in group.members], i in front)
        for i, (name, group) in enumerate(zip(names, groups, strict=True))
    ]


def price(ways: Sequence[Way]) -> Price | None:
    """What the ways' learning is set against; None where they have nothing of the kind in common."""
    return price_of([way.numbers for way in ways])


def _cost(run: Path) -> StageCost | None:
    costs = read_cost(run)
    return total_cost(costs) if costs else None


def _tests(runs: RunSet, ways: Sequence[Way]) -> list[WayTest]:
    """Learning and its price, of every pair of ways that can be paired."""
    paid = price(ways)
    # What was forgotten of other targets is no paired difference.
    last = {run.targets[-1] for run in runs.runs}
    names = [LEARNED, *([paid.statistic] if paid and (paid is HELD_OUT or len(last) == 1) else [])]
    pairs = [(a, b) for i, a in enumerate(ways) for b in ways[i + 1 :]]
    if len(pairs) > _TESTS:
        pairs = [(ways[0], other) for other in ways[1:]]
    found = []
    for first, second in pairs:
        a, b = _paired(runs, first, second)
        if a:
            tests = [paired_test(runs, a, b, name) for name in names]
            found.append(WayTest(first.name, second.name, tests))
    return found


def _paired(runs: RunSet, first: Way, second: Way) -> tuple[list[int], list[int]]:
    """Members with the same seed, two or more, each seed once; a pair of single runs whatever their seeds."""
    if len(first.members) == len(second.members) == 1:
        return list(first.members), list(second.members)

    def by_seed(way: Way) -> dict[str, int]:
        # Runs of different orders are paired by their seeds: what differs is the way, and the order is part of it.
        key = {
            str((runs.runs[i].settings.get("seed"), runs.runs[i].settings.get("order"))): i
            for i in way.members
        }
        return key if len(key) == len(way.members) else {}

    mine, theirs = by_seed(first), by_seed(second)
    common = [key for key in mine if key in theirs]
    if len(common) < 2:  # of one pair alone the test would be over examples
        return [], []
    return [mine[key] for key in common], [theirs[key] for key in common]


def _correlations(runs: RunSet) -> list[ProbeCorrelation]:
    """On the held-out tasks that all runs have in common."""
    pairs = []
    for run in runs.runs:
        probes = read_probes(run.run)
        if probes:
            matrix = replace(Matrix.load(run.run), held_out=list(run.held_out))
            pairs.append((probes, held_out_changes(matrix)))
    return probe_correlations(pairs, resamples=_RESAMPLES) if pairs else []


def _differing(runs: RunSet, ways: Sequence[Way]) -> dict[str, list[Any]]:
    settings = [runs.runs[way.members[0]].settings for way in ways]
    keys = dict.fromkeys(key for one in settings for key in one)
    values = {key: [one.get(key) for one in settings] for key in keys if key not in SEEDS}
    if "callbacks" in values:
        values["callbacks"] = [fighting(one) for one in settings]
    return {key: found for key, found in values.items() if any(value != found[0] for value in found)}
