"""The scorers as torchmetrics metrics, for any loop: they add up over batches, devices and processes."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from typing_extensions import override

import lmmcl.scorers
from lmmcl.errors import UserError
from lmmcl.scorers import lmms_eval
from lmmcl.scorers.lmms_eval.seedbench import ABILITIES
from lmmcl.scorers.score import Scorer

# Scores are added up as whole billionths: no order of batches and no number of processes changes the sum.
_UNIT = 10**9

_CLOCK = ("hour", "minute", "both")
_CHARTS = ("human", "augmented")
_PATHOLOGY = ("exact_match", "token_f1", "yes_no")
_STARS = (
    "coarse perception",
    "fine-grained perception",
    "instance reasoning",
    "logical reasoning",
    "science & technology",
    "math",
)
_TEXTS = (
    "Regular Text Recognition",
    "Irregular Text Recognition",
    "Artistic Text Recognition",
    "Handwriting Recognition",
    "Digit String Recognition",
    "Non-Semantic Text Recognition",
    "Scene Text-centric VQA",
    "Doc-oriented VQA",
    "Key Information Extraction",
    "Handwritten Mathematical Expression Recognition",
)
# The sub-scores of our own scorers; categories as ChartQA, MMStar, SEED-Bench and OCRBench have them.
PARTS: Mapping[Scorer, Sequence[str]] = {
    lmmcl.scorers.clock: _CLOCK,
    lmms_eval.coco_clock: _CLOCK,
    lmms_eval.openimg_clock: _CLOCK,
    lmms_eval.time_clock: _CLOCK,
    lmmcl.scorers.relaxed_accuracy: _CHARTS,
    lmms_eval.chartqa: _CHARTS,
    lmmcl.scorers.path_vqa: _PATHOLOGY,
    lmms_eval.path_vqa: _PATHOLOGY,
    lmmcl.scorers.letter: (*_STARS, *ABILITIES),
    lmms_eval.mmstar: _STARS,
    lmms_eval.seedbench: ABILITIES,
    lmmcl.scorers.substring: _TEXTS,
    lmms_eval.ocrbench: _TEXTS,
}


class ScorerMetric(Metric):
    """The mean of a scorer over examples, the share it could not read, and the means of its parts.

    >>> counts = metric("integer")
    >>> counts.update(["fourteen", "many"], [14, 3])
    >>> counts.compute()
    {'score': 50.0, 'unparsed': 0.5, 'parts': {}}

    Args:
        scorer: any function of prediction, gold answer and meta data that returns a `lmmcl.scorers.Score`.
        parts: names of the sub-scores that it may give, the same on all processes; None takes those of our own scorers
            as their data sets name them.
        kwargs: torchmetrics' own, such as ``process_group``.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    total: Tensor
    count: Tensor
    unparsed: Tensor
    part_totals: Tensor
    part_counts: Tensor

    def __init__(self, scorer: Scorer, parts: Sequence[str] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scorer = scorer
        self.parts = tuple(PARTS.get(scorer, ()) if parts is None else parts)
        for name in ("total", "count", "unparsed"):
            self.add_state(name, torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        for name in ("part_totals", "part_counts"):
            self.add_state(name, torch.zeros(len(self.parts), dtype=torch.long), dist_reduce_fx="sum")

    @override
    def update(
        self,
        predictions: Sequence[str],
        golds: Sequence[Any],
        metas: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Scores a batch.

        Args:
            predictions: the model's answers.
            golds: one gold answer for each, in the form that the scorer takes.
            metas: one mapping for each, with what the scorer reads of it; None is an empty one for each.

        Raises:
            UserError: the batch is no list of examples, a gold answer is impossible, or the scorer gives a part that
                was not named.
        """
        metas = [{}] * len(predictions) if metas is None else metas
        if isinstance(predictions, str) or not len(predictions) == len(golds) == len(metas):
            raise UserError(
                "ScorerMetric.update takes lists of equal length, got "
                f"{'one text' if isinstance(predictions, str) else f'{len(predictions)} predictions'}, "
                f"{len(golds)} golds and {len(metas)} metas; put a single example into lists of one."
            )
        for prediction, gold, meta in zip(predictions, golds, metas, strict=True):
            score = self.scorer(prediction, gold, meta)
            self.total += round(score.value * _UNIT)
            self.count += 1
            self.unparsed += int(not score.parsed)
            for name, value in score.parts.items():
                place = self._place(name)
                self.part_totals[place] += round(value * _UNIT)
                self.part_counts[place] += 1

    def _place(self, name: str) -> int:
        if name not in self.parts:
            raise UserError(
                f"ScorerMetric.parts must name every sub-score, the same on all processes; the scorer gives {name!r}, "
                f"named are {', '.join(self.parts) or 'none'}: add it, as in ScorerMetric(scorer, parts=[{name!r}])."
            )
        return self.parts.index(name)

    @override
    def compute(self) -> dict[str, Any]:
        """Means over all examples so far, of all processes.

        Returns:
            ``score``, 0 to 100; ``unparsed``, the share of unreadable predictions, 0 to 1; and ``parts``, for each
            sub-score that was given its mean over the examples that have it, 0 to 100. Without examples both numbers
            are nan.
        """
        number = self.count.item()
        sums = zip(self.parts, self.part_totals.tolist(), self.part_counts.tolist(), strict=True)
        return {
            "score": 100 * self.total.item() / (_UNIT * number) if number else float("nan"),
            "unparsed": self.unparsed.item() / number if number else float("nan"),
            "parts": {name: 100 * total / (_UNIT * times) for name, total, times in sums if times},
        }


def metric(scorer: str | Scorer, parts: Sequence[str] | None = None, **kwargs: Any) -> ScorerMetric:
    """The metric of a scorer or of its name.

    Args:
        scorer: a function, or the name of one of `lmmcl.scorers` ("letter") or of a task in lmms-eval's mode
            ("lmms_eval.chartqa").
        parts: see `ScorerMetric`.
        kwargs: see `ScorerMetric`.

    Raises:
        UserError: there is no scorer of this name.
    """
    if not isinstance(scorer, str):
        return ScorerMetric(scorer, parts, **kwargs)
    known = {name: getattr(lmmcl.scorers, name) for name in lmmcl.scorers.__all__ if name[0].islower()}
    known |= {f"lmms_eval.{name}": function for name, function in lmms_eval.SCORERS.items()}
    if scorer not in known:
        raise UserError(
            f"metric: there is no scorer {scorer!r}; known are {', '.join(known)}, and any function of your own."
        )
    return ScorerMetric(known[scorer], parts, **kwargs)
