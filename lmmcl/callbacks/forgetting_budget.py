"""ForgettingBudget: keep as much of what a task taught as a stated loss of held-out abilities allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from typing_extensions import override

from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.evaluation.budget import Alpha, Candidate, Search
from lmmcl.evaluation.choices import Choice, Choices
from lmmcl.evaluation.dev_scores import dev_scores, dev_tasks, require_dev, tell_without_dev
from lmmcl.evaluation.loss_bound import NOTHING_LOST, few_rows, held_out_loss
from lmmcl.evaluation.result import TaskResult
from lmmcl.mitigation import ANCHOR, Copy, Mitigation
from lmmcl.model import ContinualLMM
from lmmcl.position import Stage
from lmmcl.weights import copy_, mix_, snapshot

NO_BUDGET = 100.0
"""Points that nothing can exceed: plain fine-tuning, and nothing is measured for it."""
ALPHAS = tuple(step / 10 for step in range(11))


class ForgettingBudget(Mitigation):
    """Ends each stage with the weights that learned most among those that forget no more than a budget.

    At the end of a stage the merges θ ← α θ_previous + (1 − α) θ_new are scored on ``dev`` rows of what is to be kept.
    A merge is within the budget where the upper end of the 95 % interval of its mean loss of score against the base
    model is at most ``points``; the interval takes account of how few the rows are (`lmmcl.evaluation.loss_bound`).
    α 0, plain tuning, is tried first; if it is outside, the others from α 1 down, until one is outside, and the last
    within stands for them. α 1 are the previous weights: as the first stage starts from the base model, which lost
    nothing by definition, each stage can stay within the budget unless something else moves weights in between. With
    ``snapshots`` the weights at earlier steps of the stage are tried, too, the earliest first, until one is outside;
    with ``groups``, starting from the merge that was found, each group of parameters once as it was tuned. Of all that
    is left, the one with the best score of the stage's target on ``dev`` is taken, and the first of equals; if nothing
    stays within, the one that lost least, and it is said. What the budget cost in learning is told, and all candidates
    are kept in ``choices/<name>.jsonl``.

    That order makes the choice as sure as a single test: in at most 5 % of draws of the ``dev`` rows, 7.5 % with
    ``snapshots``, a stage takes weights that truly lose more than the budget where those before it did not. With
    ``groups`` the interval is that of each candidate alone. Errors of stages add up. Few rows bound little: where no
    answer changes, n rows of one task still leave 3.7/n possible (100 rows: 3.6 points), and so do k tasks of n/k rows
    each; it is told where that is more than the budget.

    It costs one evaluation of the ``dev`` rows at stage 0 and one for each candidate: one where plain tuning is within
    the budget, at most 11 with the default ``alphas``, plus one a snapshot and one a group that trains. List it last of
    those that change weights at the end of a task.

    Args:
        points: the budget, from 0 to 100, in points of the mean score of what is to be kept; at 100 it is plain
            fine-tuning, bit for bit, and nothing is measured.
        alphas: shares of the previous weights to try, in [0, 1]; 0 and 1 are always tried. None: 0, 0.1, ... 1.
        groups: also try each group of parameters as it was tuned.
        snapshots: also try the weights at so many equal shares of the stage's steps, from 0; each is a copy of what
            trains.
        held_out: tasks to be kept, held-out ones or targets; None: all held-out tasks that have ``dev`` rows.
        samples: score on so many ``dev`` rows of each task, from 1; None: ``data.max_eval_samples``.
        batch_size: prompts answered at once on one process.
        measure_before: also measure the weights before the choice.
        name: of its rows and state.

    Raises:
        UserError: a value is out of its range.
    """

    def __init__(
        self,
        points: float = 2.0,
        alphas: list[float] | None = None,
        groups: bool = False,
        snapshots: int = 0,
        held_out: list[str] | None = None,
        samples: int | None = None,
        batch_size: int = 32,
        measure_before: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        if not 0 <= points <= NO_BUDGET:
            raise UserError(f"trainer.callbacks: ForgettingBudget.points must lie in [0, 100], got {points}.")
        if alphas is not None and not all(0 <= alpha <= 1 for alpha in alphas):
            raise UserError(f"trainer.callbacks: ForgettingBudget.alphas must lie in [0, 1], got {alphas}.")
        for key, value, least in (
            ("snapshots", snapshots, 0),
            ("samples", samples, 1),
            ("batch_size", batch_size, 1),
        ):
            if value is not None and value < least:
                raise UserError(
                    f"trainer.callbacks: ForgettingBudget.{key} must be at least {least}, got {value}."
                )
        self.points = points
        self.alphas = alphas
        self.groups = groups
        self.snapshots = snapshots
        self.held_out = held_out
        self.samples = samples
        self.batch_size = batch_size
        self.measure_before = measure_before
        self._at_base = True

    @override
    def copies(self) -> Sequence[Copy]:
        return [ANCHOR, *[Copy("task")] * self.snapshots] if self.moves_weights() else []

    @override
    def moves_weights(self) -> bool:
        return self.points < NO_BUDGET

    @override
    def conflict(self, other: Mitigation) -> str | None:
        if isinstance(other, ForgettingBudget) and self.moves_weights() and other.moves_weights():
            return "each chooses the weights of a stage anew; give one of them all tasks that are to be kept."
        return None

    @override
    def must_follow(self, other: Mitigation) -> str | None:
        if self.moves_weights() and other.moves_weights():
            return f"the budget holds for the weights as {self.name} leaves them."
        return None

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        assert isinstance(pl_module, ContinualLMM)
        if stage == "fit" and self.moves_weights():
            require_dev(pl_module.data.tasks, "ForgettingBudget")
            self._kept(pl_module)

    def _kept(self, module: ContinualLMM) -> list[Task]:
        return dev_tasks(module.data, self.held_out, "ForgettingBudget.held_out")

    # State: what the base model scored, the weights as the task began, those at earlier steps, and whether the weights
    # are still the base model's

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"at_base": self._at_base}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._at_base = state_dict["at_base"]

    @override
    def on_stage_end(
        self, trainer: Trainer, module: ContinualLMM, task: Task | None, scores: Mapping[str, float]
    ) -> None:
        if task is None and self.moves_weights():
            if self.held_out is None:
                tell_without_dev(module, self.name)
            found = dev_scores(module, self._kept(module), batch_size=self.batch_size, samples=self.samples)
            self.tensors = {
                f"base/{name}": _scores(result).to(module.device) for name, result in found.items()
            }
            rows = {name: result.n for name, result in found.items()}
            groups = {name: result.groups for name, result in found.items()}
            if rows and (told := few_rows(rows, self.points, groups)):
                module.sequence.report_notice(f"{self.name}: {told}")

    @override
    def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        if self.moves_weights():
            self._forget_task()
            self.tensors |= {f"anchor/{name}": tensor for name, tensor in module.anchor().items()}

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, ContinualLMM)
        if not (self.moves_weights() and self.snapshots and pl_module.sequence.is_new_step(trainer)):
            return
        step, steps = pl_module.sequence.position.step + 1, pl_module.steps_in_task
        if step < steps and step in {
            round(i * steps / (self.snapshots + 1)) for i in range(self.snapshots + 1)
        }:
            now = snapshot(pl_module.trained_parameters())
            self.tensors |= {f"step-{step}/{name}": tensor for name, tensor in now.items()}

    def _forget_task(self) -> None:
        """Keeps the base model's scores alone."""
        self.tensors = {f"base/{name}": scores for name, scores in self._state("base").items()}

    def _state(self, kind: str) -> dict[str, Tensor]:
        """The tensors of a kind, by task or by parameter."""
        keys = (key.partition("/") for key in self.tensors)
        return {name: self.tensors[f"{kind}/{name}"] for of, _, name in keys if of == kind}

    def _steps(self) -> list[int]:
        """The steps whose weights are kept."""
        return sorted({int(key.partition("/")[0][5:]) for key in self.tensors if key.startswith("step-")})

    # The choice

    @override
    def on_task_end(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        if not self.moves_weights():
            return
        if self.measure_before:
            module.sequence.measure(trainer, module, f"before {self.name}")
        parameters = module.parameters_by_name(list(self._state("anchor")))
        tuned = snapshot(parameters)

        def score(alpha: Alpha, step: int | None) -> Candidate:
            self._put(module, parameters, tuned, alpha, step)
            return self._score(module, task, alpha, step)

        groups = list(dict.fromkeys(module.trained[name] for name in parameters)) if self.groups else []
        alphas = ALPHAS if self.alphas is None else self.alphas
        found, chosen = Search(score, self.points, task.name, alphas, self._steps(), groups).run()
        self._put(module, parameters, tuned, chosen.alpha, chosen.step)
        self._at_base &= chosen.alpha == 1.0
        stage = Stage(module.sequence.position.stage, task, "")
        candidates = [candidate.plain() for candidate in found]
        choice = Choice(stage.index, stage.folder, found.index(chosen), candidates)
        Choices(module.sequence.run.path, self.name).put(choice)
        module.sequence.report_notice(f"{self.name}: {stage.folder} {self._told(task.name, found, chosen)}")
        self._forget_task()

    def _put(
        self,
        module: ContinualLMM,
        parameters: Mapping[str, Tensor],
        tuned: Mapping[str, Tensor],
        alpha: Alpha,
        step: int | None,
    ) -> None:
        """Puts a candidate's weights into the model."""
        if step is not None:
            copy_(parameters, self._state(f"step-{step}"))
            return
        copy_(parameters, tuned)
        for name, anchor in self._state("anchor").items():
            share = alpha[module.trained[name]] if isinstance(alpha, dict) else alpha
            mix_({name: parameters[name]}, {name: anchor}, share)

    def _score(self, module: ContinualLMM, task: Task, alpha: Alpha, step: int | None) -> Candidate:
        """Scores the weights as they stand."""
        tasks = list({one.name: one for one in (task, *self._kept(module))}.values())
        found = dev_scores(module, tasks, batch_size=self.batch_size, samples=self.samples)
        base = {name: scores.tolist() for name, scores in self._state("base").items()}
        now = {name: _scores(found[name]).tolist() for name in base}
        known = self._at_base and alpha == 1.0 and now == base
        loss = (
            NOTHING_LOST if known else held_out_loss(base, now, {name: found[name].groups for name in base})
        )
        return Candidate(alpha, step, loss, {name: result.mean for name, result in found.items()})

    def _told(self, target: str, found: Sequence[Candidate], chosen: Candidate) -> str:
        tuned, loss = found[0], chosen.loss
        verdict = "" if loss.high <= self.points else "nothing stays within the budget, this lost least; "
        return (
            f"takes {chosen} of {len(found)} tried; {verdict}on dev it lost {loss.value:.1f} points of what is to be "
            f"kept (95 %: {loss.low:.1f} to {loss.high:.1f}, budget {self.points:g}; as tuned {tuned.loss.value:.1f}) "
            f"and has {chosen.scores[target]:.1f} in {target} (as tuned {tuned.scores[target]:.1f})."
        )


def _scores(result: TaskResult) -> Tensor:
    """(examples,) in fp32, in which the base model's are kept: what is equal stays equal."""
    return torch.tensor([example.score for example in result.examples])
