"""The audit of a tuned model: what it gained and lost, which answers flipped, what moved, what gives most back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from lmmcl.audit.candidate import Candidate
from lmmcl.audit.changes import Results, TaskChange, flipped, mean_change, sure_change, task_change
from lmmcl.audit.measure import Measurer, Progress
from lmmcl.audit.search import Choice, Trial, alphas, choose, greedy, most_trials, one_by_one
from lmmcl.audit.speaker import Speaker
from lmmcl.audit.two_models import GroupChange, TwoModels, load_two
from lmmcl.data.questions import Questions
from lmmcl.evaluation.flipped_examples import FlippedExample
from lmmcl.evaluation.loss_bound import NOTHING_LOST, few_rows
from lmmcl.evaluation.summary import Estimate
from lmmcl.loading import Checkpoint, device_of

Precision = Literal["bf16-mixed", "32-true"]


@dataclass(frozen=True)
class Verdict:
    """A candidate against the base, on the rows that are reported.

    Args:
        candidate: the mixture.
        tasks: what changed, task by task.
        learning: mean change of the targets; None without targets.
        held_out: mean change of the held-out tasks.
        flips: every answer that flipped.
    """

    candidate: Candidate
    tasks: Sequence[TaskChange]
    learning: Estimate | None
    held_out: Estimate
    flips: Sequence[FlippedExample]

    @property
    def lost(self) -> list[FlippedExample]:
        """Answers that were right and are wrong, critical ones first."""
        return [one for one in self.flips if one.direction == "lost"]

    @property
    def critical(self) -> list[str]:
        """``task/id`` of every critical row that was right and is wrong."""
        return [f"{one.task}/{one.id}" for one in self.lost if one.critical]


@dataclass
class Audit:
    """What an audit found.

    Args:
        base: path or id.
        tuned: path or id.
        budget: points of held-out loss that are allowed.
        groups: how far every group moved.
        verdict: the tuned model against the base.
        by_alpha: mixtures of all groups alike, on dev; empty where nothing was chosen.
        by_group: groups put back alone, the best first, on dev.
        sets: groups put back together, on dev.
        choice: what keeps most within the budget; None where nothing was chosen.
        finalists: verdicts of what `choice` names, on test.
        notes: what a reader should know.
        settings: what decided the answers.
    """

    base: str
    tuned: str
    budget: float
    groups: Sequence[GroupChange]
    verdict: Verdict
    by_alpha: Sequence[Trial] = ()
    by_group: Sequence[Trial] = ()
    sets: Sequence[Trial] = ()
    choice: Choice | None = None
    finalists: Mapping[Candidate, Verdict] = field(default_factory=dict)
    notes: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def best(self) -> Verdict | None:
        """The chosen candidate on test; None where only the base is within the budget."""
        found = self.choice.best if self.choice is not None else None
        return None if found is None else self.finalists[found.candidate]


class Auditor:
    """Audits a tuned model against its base; see `audit`.

    Args:
        base: the model before tuning.
        tuned: the model after it, or a peft adapter.
        questions: what both are asked.
        folder: answers are kept under it, so that the same audit costs nothing the second time.
        batch_size: prompts answered at once, from 1.
        precision: ``bf16-mixed`` as a run measures, or ``32-true``.
        device: where the answers are made.
        progress: told how far a measurement is.
    """

    def __init__(
        self,
        base: Checkpoint,
        tuned: Checkpoint,
        questions: Questions,
        folder: Path,
        batch_size: int = 32,
        precision: Precision = "bf16-mixed",
        device: str = "auto",
        progress: Progress = lambda candidate, task, done, total: None,
    ) -> None:
        self.questions = questions
        self._names = base.path, tuned.path
        place = device_of(device)
        # As a run measures: eager attention on a CPU.
        self.two: TwoModels = load_two(base, tuned, "eager" if place.type == "cpu" else None)
        self.speaker = Speaker(self.two, place, precision)
        self._measurer = Measurer(self.two, self.speaker, questions, folder, batch_size, precision, progress)
        self._settings = {
            "batch_size": batch_size,
            "precision": precision,
            "device": place.type,
            "max_eval_samples": questions.max_eval_samples,
            "scoring": questions.data.scoring,
        }
        self._notes = list(self.two.notes)
        self.silent = questions.without_dev()

    def plan(self, search: bool) -> str:
        """What will be measured, in a sentence."""
        questions = self.questions
        tested = sum(len(questions.rows(task, "test")) for task in questions.tasks)
        text = f"2 models on {tested} rows (test)"
        most = most_trials(len(self.two.moved)) if search else 0
        if most and self._choosing_held_out():
            chosen = sum(len(questions.rows(task, "dev")) for task in self._choosing())
            text += f", both and at most {most} mixtures on {chosen} (dev), at most 2 of them on test again"
        return f"{text}; answers that are kept are not made again"

    def run(
        self, budget: float, search: bool = True, told: Callable[[str], None] = lambda text: None
    ) -> Audit:
        """The audit.

        Args:
            budget: points of held-out loss that are allowed, from 0.
            search: look for what gives most back; else gains, flips and groups only.
            told: is given a line where something takes long.
        """
        tasks = self.questions.tasks
        base = self._measurer.measure(Candidate.everywhere(self.two.moved, 1.0), "test", tasks)
        verdict = self._verdict(Candidate.everywhere([], 0.0), base)
        found = Audit(
            *self._names, budget, self.two.groups, verdict, notes=self._notes, settings=self._settings
        )
        if not search or not self.two.moved:
            return found
        if self.silent:
            left = f"{', '.join(self.silent)}: no rows for dev, so nothing is chosen by them"
            self._notes.append(left if self._choosing_held_out() else f"{left}; nothing is chosen at all")
        if not self._choosing_held_out():
            return found
        if few := self._few(budget):
            self._notes.append(few)
        return self._search(found, base, told)

    def _few(self, budget: float) -> str | None:
        """What to tell of dev rows that are few for the budget."""
        chosen = [task for task in self._choosing() if task.name in self._choosing_held_out()]
        rows = {task.name: self.questions.rows(task, "dev") for task in chosen}
        groups = {
            task.name: [str(row.meta.get(task.mean_over, "")) for row in rows[task.name]]
            for task in chosen
            if task.mean_over is not None
        }
        return few_rows({name: len(its) for name, its in rows.items()}, budget, groups)

    def _search(self, found: Audit, base: Results, told: Callable[[str], None]) -> Audit:
        moved, budget = self.two.moved, found.budget
        attempt = self._attempts()
        by_alpha = alphas(moved, attempt, budget)
        by_group = one_by_one(moved, attempt)
        sets = greedy(by_group, attempt, budget)
        choice = choose(by_alpha, [*by_group, *sets], budget)
        trials = [trial for trial in (choice.alpha, choice.groups) if trial is not None]
        finalists = {trial.candidate: self._verdict(trial.candidate, base) for trial in trials}
        return replace(
            found,
            by_alpha=by_alpha,
            by_group=by_group,
            sets=sets,
            choice=choice,
            finalists=finalists,
            notes=self._notes,
        )

    def _choosing(self) -> list[Any]:
        return [task for task in self.questions.tasks if task.name not in self.silent]

    def _choosing_held_out(self) -> list[str]:
        return [task.name for task in self.questions.held_out if task.name not in self.silent]

    def _attempts(self) -> Callable[[Candidate], Trial]:
        """Measures candidates on dev, against base and tuned."""
        tasks = self._choosing()
        targets = [task.name for task in self.questions.targets if task.name not in self.silent]
        held_out = self._choosing_held_out()
        base = self._measurer.measure(Candidate.everywhere(self.two.moved, 1.0), "dev", tasks)
        tuned = self._measurer.measure(Candidate.everywhere([], 0.0), "dev", tasks)

        def attempt(candidate: Candidate) -> Trial:
            now = self._measurer.measure(candidate, "dev", tasks)
            lost, back = sure_change(base, now, held_out), mean_change(tuned, now, held_out)
            assert back is not None
            if self._measurer.is_base(candidate):
                lost = NOTHING_LOST
            learning, up = mean_change(base, now, targets), mean_change(tuned, now, targets)
            return Trial(candidate, lost, learning, self._kept(candidate), back, up)

        return attempt

    def _kept(self, candidate: Candidate) -> float:
        alphas_of = candidate.by_group()
        squares = {change.group: change.moved**2 for change in self.two.groups}
        left = sum(square * (1 - alphas_of.get(group, 0.0)) ** 2 for group, square in squares.items())
        return math.sqrt(left / sum(squares.values()))

    def _verdict(self, candidate: Candidate, base: Results) -> Verdict:
        now = self._measurer.measure(candidate, "test", self.questions.tasks)
        targets = [task.name for task in self.questions.targets]
        held_out = [task.name for task in self.questions.held_out]
        change = mean_change(base, now, held_out)
        assert change is not None
        asked = {task.name: self.questions.rows(task, "test") for task in self.questions.tasks}
        return Verdict(
            candidate,
            [task_change(base[name], now[name], name in targets) for name in [*targets, *held_out]],
            mean_change(base, now, targets),
            change,
            [flip for name in [*targets, *held_out] for flip in flipped(base[name], now[name], asked[name])],
        )
