"""WiSE-FT: after every task, interpolate between the weights before and after it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from typing_extensions import override

from lmmcl.data.task import Task
from lmmcl.errors import UserError
from lmmcl.evaluation.choices import Choice, Choices
from lmmcl.evaluation.dev_scores import dev_scores, dev_tasks, require_dev, tell_without_dev
from lmmcl.mitigation import ANCHOR, Copy, Mitigation
from lmmcl.model import ContinualLMM
from lmmcl.position import Stage
from lmmcl.weights import copy_, mix_, snapshot

SWEEP = tuple(step / 10 for step in range(11))
"""The α of ``alpha: sweep``."""


def merit(target: float, held_out: Sequence[float], keep: float) -> float:
    """(1 − k) S_target + k mean S_held-out; the target alone where nothing is held out.

    Args:
        target: score of the present target, 0 to 100.
        held_out: scores of what is to be kept, 0 to 100.
        keep: k in [0, 1].
    """
    return (1 - keep) * target + keep * sum(held_out) / len(held_out) if held_out else target


def best(alphas: Sequence[float], merits: Sequence[float]) -> int:
    """Position of the highest merit; of equals, that of the largest α, which stays nearest to the previous weights."""
    return max(range(len(alphas)), key=lambda i: (merits[i], alphas[i]))


class WiSEFT(Mitigation):
    """θ ← α θ_previous + (1 − α) θ_new over the trained tensors: a mixture of the weights before and after the task.

    Wortsman et al., 2021, arXiv 2109.01903; after every stage as in arXiv 2510.08564. The next task starts from
    the merge. Both the weights before and after it get a row of the matrix.

    Given several α, each merge is made in memory and scored on ``dev`` rows, of the present target and of what is to
    be kept, before one is chosen; nothing is written until then. Chosen is the highest (1 − k) S_target + k mean
    S_held-out, with k = ``keep``; of equals, the largest α. All scores are told, and kept in ``choices/<name>.jsonl``.
    It costs one evaluation of those ``dev`` rows for each α and, while it lasts, a second copy of what trains.

    Args:
        alpha: α in [0, 1]: the share of the previous weights; 0 keeps the tuned model, 1 the previous one, byte for
            byte. The study's code uses 0.1, its text 0.5. Or a list to choose from, or ``sweep``: 0, 0.1, ... 1.
        measure_before: also measure the weights before the merge.
        keep: k in [0, 1]: what keeping weighs against learning in the choice; 1 looks at what is held out alone.
        held_out: tasks whose scores are to be kept, held-out ones or targets; None: all held-out tasks that have
            ``dev`` rows.
        samples: score on so many ``dev`` rows of each task, from 1; None: ``data.max_eval_samples``.
        batch_size: prompts answered at once on one process.
        name: of its rows and state.

    Raises:
        UserError: a value is out of its range.
    """

    def __init__(
        self,
        alpha: float | list[float] | Literal["sweep"] = 0.5,
        measure_before: bool = True,
        keep: float = 0.5,
        held_out: list[str] | None = None,
        samples: int | None = None,
        batch_size: int = 32,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        given: Any = alpha
        alphas = SWEEP if alpha == "sweep" else alpha if isinstance(alpha, list) else [given]
        if not alphas or not all(isinstance(value, int | float) and 0 <= value <= 1 for value in alphas):
            raise UserError(
                "trainer.callbacks: WiSEFT.alpha must lie in [0, 1], or be a list of such numbers or sweep, got "
                f"{alpha}."
            )
        if not 0 <= keep <= 1:
            raise UserError(f"trainer.callbacks: WiSEFT.keep must lie in [0, 1], got {keep}.")
        for key, value in (("samples", samples), ("batch_size", batch_size)):
            if value is not None and value < 1:
                raise UserError(f"trainer.callbacks: WiSEFT.{key} must be at least 1, got {value}.")
        self.alpha = alpha
        self.measure_before = measure_before
        self.keep = keep
        self.held_out = held_out
        self.samples = samples
        self.batch_size = batch_size
        self._alphas = sorted({float(value) for value in alphas})

    @override
    def copies(self) -> Sequence[Copy]:
        return [ANCHOR]

    @override
    def moves_weights(self) -> bool:
        return self._alphas != [0.0]

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        assert isinstance(pl_module, ContinualLMM)
        if stage == "fit" and len(self._alphas) > 1:
            require_dev(pl_module.data.tasks, "WiSEFT.alpha")
            self._kept(pl_module)

    def _kept(self, module: ContinualLMM) -> list[Task]:
        """The tasks whose scores are to be kept."""
        if self.held_out is None and not module.data.held_out:
            return []
        return dev_tasks(module.data, self.held_out, "WiSEFT.held_out")

    @override
    def on_task_start(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        self.tensors = dict(module.anchor())
        if len(self._alphas) > 1 and self.held_out is None and module.sequence.position.stage == 1:
            tell_without_dev(module, self.name)

    @override
    def on_task_end(self, trainer: Trainer, module: ContinualLMM, task: Task) -> None:
        if self.measure_before:
            module.sequence.measure(trainer, module, f"before {self.name}")
        parameters = module.parameters_by_name(list(self.tensors))
        if len(self._alphas) == 1:
            mix_(parameters, self.tensors, self._alphas[0])
            return
        tuned = snapshot(parameters)
        scores = list(self._scores(module, task, parameters, tuned))
        kept = [other.name for other in self._kept(module) if other != task]
        merits = [merit(found[task.name], [found[name] for name in kept], self.keep) for found in scores]
        chosen = best(self._alphas, merits)
        copy_(parameters, tuned)
        mix_(parameters, self.tensors, self._alphas[chosen])
        stage = Stage(module.sequence.position.stage, task, "")
        candidates = [
            {"alpha": alpha, "merit": value, "scores": found}
            for alpha, value, found in zip(self._alphas, merits, scores, strict=True)
        ]
        Choices(module.sequence.run.path, self.name).put(
            Choice(stage.index, stage.folder, chosen, candidates)
        )
        self._tell(module, stage, chosen, candidates)

    def _scores(
        self,
        module: ContinualLMM,
        task: Task,
        parameters: Mapping[str, Tensor],
        tuned: Mapping[str, Tensor],
    ) -> Iterator[dict[str, float]]:
        """Scores by task on ``dev`` of the merge with each α, which is left in place."""
        tasks = list({one.name: one for one in (task, *self._kept(module))}.values())
        for alpha in self._alphas:
            copy_(parameters, tuned)
            mix_(parameters, self.tensors, alpha)
            found = dev_scores(module, tasks, batch_size=self.batch_size, samples=self.samples)
            yield {name: result.mean for name, result in found.items()}

    def _tell(
        self, module: ContinualLMM, stage: Stage, chosen: int, candidates: Sequence[Mapping[str, Any]]
    ) -> None:
        names = list(candidates[0]["scores"])
        lines = [
            f"α {row['alpha']:g}: {row['merit']:.1f} ("
            + ", ".join(f"{name} {row['scores'][name]:.1f}" for name in names)
            + ")"
            for row in candidates
        ]
        module.sequence.report_notice(
            f"{self.name}: {stage.folder} takes α {candidates[chosen]['alpha']:g} by its dev scores, learning weighed "
            f"{1 - self.keep:g} and keeping {self.keep:g}. {'; '.join(lines)}"
        )
