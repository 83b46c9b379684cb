"""All that a run folder tells its report, read once."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import yaml

from lmmcl.errors import UserError
from lmmcl.evaluation.answer_log import SampledAnswer, read_answers
from lmmcl.evaluation.choices import Choice, read_choices
from lmmcl.evaluation.matrix import Matrix
from lmmcl.evaluation.predictions import PredictionStore
from lmmcl.evaluation.probe_correlation import ProbeCorrelation, held_out_changes, probe_correlations
from lmmcl.evaluation.probe_log import FOLDER, Probe, read_probes
from lmmcl.evaluation.summary import Summary
from lmmcl.report.run_summary import load_summary, summary_of
from lmmcl.run.log import METRICS
from lmmcl.run.run_folder import LINEAGE, RunFolder


@dataclass(frozen=True)
class Sample:
    """One sampled question and what the model said to it after every stage.

    Args:
        task: of the question.
        id: of its row.
        question: as it was asked.
        gold: the right answer.
        picture: file of the picture; None without.
        answers: (stage, answer, score from 0 to 1), by stage.
    """

    task: str
    id: str
    question: str
    gold: str
    picture: Path | None
    answers: Sequence[tuple[int, str, float]]


@dataclass(frozen=True)
class RunData:
    """A run as its report sees it; what it does not have is empty.

    Args:
        path: its folder.
        matrix: of scores.
        summary: with intervals; None before the first stage is measured.
        config: what decides the result, ``config.json``.
        given: the YAML as it was resolved, ``config.yaml``.
        environment: versions and machine.
        lineages: of the stages, base model first.
        probes: what probes read.
        samples: sampled answers.
        choices: what each callback chose on ``dev`` rows, stage by stage.
        log: columns of ``logs/metrics.csv``; an empty cell is None.
    """

    path: Path
    matrix: Matrix
    summary: Summary | None
    config: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    lineages: Sequence[Mapping[str, Any]] = ()
    probes: Sequence[Probe] = ()
    samples: Sequence[Sample] = ()
    choices: Mapping[str, Sequence[Choice]] = field(default_factory=dict)
    log: Mapping[str, Sequence[str | None]] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """Number of measured stages after the base model."""
        return len(self.matrix.finals) - 1

    @property
    def finished(self) -> bool:
        """Whether every target was taught and measured."""
        return self.done == len(self.matrix.targets)

    @property
    def taught(self) -> Sequence[str]:
        """The targets of the measured stages."""
        return self.matrix.targets[: self.done]

    @property
    def held_out(self) -> list[str]:
        """Held-out tasks that were measured at every stage."""
        return self.matrix.measured(self.matrix.held_out)

    @cached_property
    def steps(self) -> Mapping[str, int]:
        """Optimizer steps of every task, as far as they are logged."""
        tasks = self.log.get("task", ())
        return {str(task): tasks.count(task) for task in dict.fromkeys(tasks)}

    @cached_property
    def stage_ends(self) -> list[float]:
        """The step at which each taught task ended; empty without a log."""
        return [float(end) for end in accumulate(self.steps.values())]

    @cached_property
    def stage_spans(self) -> list[tuple[float, str]]:
        """The middle of each task's steps, and its name."""
        starts = [0.0, *self.stage_ends]
        return [
            ((start + end) / 2, task)
            for start, end, task in zip(starts, self.stage_ends, self.steps, strict=False)
        ]

    def stage_name(self, index: int) -> str:
        """The task of a stage, or "base"."""
        return "base" if index == 0 else str(self.matrix.targets[index - 1])

    @cached_property
    def answered(self) -> list[str]:
        """Tasks whose answers all lie in the folder, for every stage that measured them; others have lost some."""
        folder = RunFolder(self.path).predictions
        return [
            task
            for task in self.matrix.tasks
            if all(
                (folder / s.name / f"{task}.jsonl").exists() for s in self.matrix.finals if task in s.cells
            )
        ]

    @cached_property
    def correlations(self) -> list[ProbeCorrelation]:
        """How every series of every probe goes with the held-out change over the stages."""
        return probe_correlations([(self.probes, held_out_changes(self.matrix))]) if self.probes else []

    def store(self) -> PredictionStore:
        """All answers."""
        return PredictionStore(RunFolder(self.path).predictions)


def check_folder(path: Path) -> None:
    """Refuses what is no run, or one that has measured nothing.

    Raises:
        UserError: so.
    """
    folder = RunFolder(path)
    if not path.is_dir():
        raise UserError(f"report: {path} must be the folder of a run, and there is no such folder.")
    if not folder.matrix.exists():
        begun = folder.config.exists()
        raise UserError(
            f"report: {path} has measured nothing yet; report it when its base model is measured."
            if begun
            else f"report: {path} holds no run (no matrix.json); give the folder that lmmcl fit --run wrote."
        )


def read_run(path: Path, summary: Summary | None = None) -> RunData:
    """Reads a run folder.

    Args:
        path: the folder.
        summary: if it was just made; None: the one in the folder, or made anew where that is missing or old.

    Raises:
        UserError: it is no run, it has measured nothing yet, or one of its files is damaged.
    """
    check_folder(path)
    folder, matrix = RunFolder(path), Matrix.load(path)
    if not matrix.finals:
        raise UserError(
            f"report: {path} has measured nothing yet; report it when its base model is measured."
        )
    summary = summary or load_summary(path)
    if summary is None or summary.stages != len(matrix.finals) - 1:
        summary = summary_of(path, matrix) if len(matrix.finals) > 1 else None
    stages = folder.stages()
    return RunData(
        path=path,
        matrix=matrix,
        summary=summary,
        config=_json(folder.config),
        given=_yaml(path / "config.yaml"),
        environment=_json(path / "environment.json"),
        lineages=[_json(folder.stage(name) / LINEAGE) for name in stages],
        probes=read_probes(path),
        samples=_samples(path),
        choices=_read_choices(path),
        log=_columns(folder.logs / METRICS),
    )


def _json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_bytes()))
    except (ValueError, TypeError) as error:
        raise UserError(f"report: {path} is damaged ({error}).") from error


def _yaml(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        return dict(yaml.load(path.read_text(encoding="utf-8"), Loader=loader) or {})
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise UserError(f"report: {path} is damaged ({' '.join(str(error).split())}).") from error


def _columns(path: Path) -> dict[str, list[str | None]]:
    if not path.exists():
        return {}
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [row[name] or None for row in rows] for name in (rows[0] if rows else ())}


def _samples(run: Path) -> list[Sample]:
    """The sampled questions of all logs, each with its answers by stage."""
    samples = []
    for name, answers in read_answers(run).items():
        asked: dict[tuple[str, str], list[SampledAnswer]] = {}
        for answer in answers:
            asked.setdefault((answer.task, answer.id), []).append(answer)
        for (task, identity), said in asked.items():
            first = said[0]
            picture = run / FOLDER / name / first.picture if first.picture else None
            by_stage = [(answer.stage, answer.prediction, answer.score) for answer in said]
            samples.append(
                Sample(task, identity, first.question, gold_text(first.gold), picture, sorted(by_stage))
            )
    return samples


def gold_text(gold: Any) -> str:
    """A gold answer in words; of several, each once."""
    return ", ".join(dict.fromkeys(map(str, gold))) if isinstance(gold, list) else str(gold)


def _read_choices(run: Path) -> dict[str, list[Choice]]:
    try:
        return read_choices(run)
    except (ValueError, TypeError) as error:
        raise UserError(f"report: {run / 'choices'} holds a damaged file ({error}); remove it.") from error
