"""A task: where its rows come from, how an answer is scored, and what it overrides while it is trained."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args, runtime_checkable

from lmmcl.data.row import Row
from lmmcl.data.scorer_source import scorer_source
from lmmcl.errors import UserError
from lmmcl.scorers.score import Scorer

Part = Literal["train", "dev", "test"]
PARTS: tuple[Part, ...] = get_args(Part)


class Source(Protocol):
    """Where the rows of a task come from; its three parts share no row."""

    def split(self, name: Part) -> Sequence[Row]:
        """The rows of a part, always the same ones in the same order; at least one.

        Raises:
            UserError: there is no such part, or it is empty.
        """
        ...

    def fingerprint(self) -> str:
        """A text that changes when the rows change."""
        ...


@runtime_checkable
class RootedSource(Source, Protocol):
    """A source of hub data, which may lie in local copies."""

    def at(self, root: str | Path | None) -> Source:
        """The same rows from copies under ``root``, a folder of ``<owner>/<name>``; None: from the hub."""
        ...

    def undivided(self) -> Source:
        """The same source with its test split as it was published: no dev part is cut from it."""
        ...


@dataclass(frozen=True)
class Task:
    """One skill: taught as a target, or only measured.

    Args:
        name: unique in a run; it names files, columns and curves (letters, digits, ``_``, ``-``, ``.``).
        source: where the rows come from.
        scorer: function of prediction, gold answer and meta data.
        max_new_tokens: the longest answer that is generated, in tokens, from 1.
        epochs: how often training sees every row, from 1.
        lr: learning rate instead of the model's, above 0.
        recipe: what trains instead of the model's recipe, in any form that a recipe takes.
        batch_size: samples per optimizer step instead of the data's, from 1.
        max_train_samples: train on a fixed, seeded draw of so many rows, from 1; None: on all.
        mean_over: the task's score is the mean over groups of the mean score in each; here the key of the rows' meta
            data that names their group. None: the mean over examples.
        lmms_eval: the scorer that gives lmms-eval's scores, where there is one; ``scoring: lmms-eval`` takes it.

    Raises:
        UserError: a value is out of its range.
    """

    name: str
    source: Source
    scorer: Scorer
    max_new_tokens: int = 32
    epochs: int = 1
    lr: float | None = None
    recipe: Any = None
    batch_size: int | None = None
    max_train_samples: int | None = None
    lmms_eval: Scorer | None = None
    mean_over: str | None = None

    @property
    def scored_by(self) -> str:
        """How answers become the task's score, as a text that results are found by."""
        function = getattr(self.scorer, "__qualname__", type(self.scorer).__qualname__)
        source = scorer_source(self.scorer)
        name = f"{self.scorer.__module__}.{function}" + (f" ({source})" if source else "")
        return name if self.mean_over is None else f"{name}, mean over {self.mean_over}"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", self.name):
            raise UserError(
                "data.tasks: a task's name must be letters, digits, '_', '-' or '.' (files bear it), got "
                f"{self.name!r}."
            )
        for key in ("max_new_tokens", "epochs", "batch_size", "max_train_samples"):
            value = getattr(self, key)
            optional = key in ("batch_size", "max_train_samples")
            if not (value is None and optional) and (
                not isinstance(value, int) or isinstance(value, bool) or value < 1
            ):
                raise UserError(
                    f"data.tasks: {self.name}.{key} must be a whole number from 1, got {value!r}."
                )
        lr: Any = self.lr  # from YAML it may be anything
        if lr is not None and (not isinstance(lr, int | float) or not 0 < lr < float("inf")):
            raise UserError(f"data.tasks: {self.name}.lr must be a number above 0, got {lr!r}.")
