"""The methods of ``lmmcl merge`` by name, with their settings, the papers' values, and what each says it did."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from lmmcl.errors import UserError
from lmmcl.merge.breadcrumbs import breadcrumbs
from lmmcl.merge.dare import dare
from lmmcl.merge.pieces import Merge, Piece
from lmmcl.merge.task_arithmetic import task_arithmetic
from lmmcl.merge.ties import ties
from lmmcl.merge.wise_ft import wise_ft

Settings = Mapping[str, float]

METHODS: Mapping[str, Settings] = {
    "task_arithmetic": {"weight": 1.0},
    "ties": {"keep": 0.2, "weight": 1.0},
    "dare": {"drop": 0.9, "weight": 1.0, "seed": 0},
    "breadcrumbs": {"smallest": 0.85, "largest": 0.01, "weight": 1.0},
    "wise_ft": {"alpha": 0.5},
}
"""The settings of each method that needs nothing but the tensors, with their defaults."""
WITH_ROWS: Mapping[str, Settings] = {
    "model_tailor": {"keep": 0.1, "samples": 128, "damping": 0.01, "seed": 0}
}
"""Those of the methods that run the tuned model on rows."""
ALL: Mapping[str, Settings] = {**METHODS, **WITH_ROWS}
_FUNCTIONS: Mapping[str, Callable[..., Callable[[Piece], Tensor]]] = {
    "task_arithmetic": task_arithmetic,
    "ties": ties,
    "breadcrumbs": breadcrumbs,
    "wise_ft": wise_ft,
}


@dataclass(frozen=True)
class Setting:
    """One option.

    Args:
        text: what it says.
        low: least value.
        high: largest value, None: any.
        open_above: whether ``high`` itself is out of range.
        open_below: whether ``low`` itself is out of range.
        whole: whether it is a whole number.
    """

    text: str
    low: float = 0.0
    high: float | None = 1.0
    open_above: bool = False
    open_below: bool = False
    whole: bool = False

    @property
    def range(self) -> str:
        """In words."""
        if self.high is None:
            return f"be {'above' if self.open_below else 'at least'} {self.low:g}"
        return f"lie in [{self.low:g}, {self.high:g}{')' if self.open_above else ']'}"


SETTINGS: Mapping[str, Setting] = {
    "weight": Setting("λ, by which the merged change is multiplied", high=None),
    "keep": Setting("share of each task vector that is kept, the largest values, or those that matter most"),
    "drop": Setting("share of each task vector that is dropped at random", open_above=True),
    "smallest": Setting("share of each task vector that is left out, the smallest values"),
    "largest": Setting("share of each task vector that is left out, the largest values"),
    "alpha": Setting("share of the base in the mean"),
    "samples": Setting("rows of --data that TUNED reads", low=1, high=None, whole=True),
    "damping": Setting("added to the diagonal of the Hessian over its mean", high=None, open_below=True),
    "seed": Setting("of what is drawn", high=None, whole=True),
}


def settings_of(method: str, given: Settings) -> Settings:
    """A method's settings: those that were given, and defaults.

    Raises:
        UserError: the method has no such setting, or its value is out of range.
    """
    if method not in ALL:
        raise UserError(f"--method must be one of {', '.join(ALL)}, got {method!r}.")
    for key, value in given.items():
        if key not in ALL[method]:
            has = ", ".join(f"--{name}" for name in ALL[method])
            raise UserError(f"--{key} is no setting of {method}, which has {has}.")
        rule = SETTINGS[key]
        above = rule.high is not None and (value > rule.high or (rule.open_above and value == rule.high))
        if not value >= rule.low or (rule.open_below and value == rule.low) or above:
            raise UserError(f"--{key} must {rule.range}, got {value}.")
    found = {**ALL[method], **given}
    if method == "breadcrumbs" and found["smallest"] + found["largest"] > 1:
        raise UserError(
            "--smallest and --largest leave out shares of one task vector: their sum must be at most 1."
        )
    return found


def method_of(method: str, settings: Settings, models: int) -> Merge:
    """The merge of one tensor, by a method that needs nothing but the tensors.

    Raises:
        UserError: the method merges another number of models.
    """
    if method == "wise_ft" and models != 1:
        raise UserError(
            f"--method wise_ft interpolates between the base and one tuned model, got {models}; give one, or take "
            "another method."
        )
    if method == "dare":
        return lambda tensor: dare(tensor, settings["drop"], settings["weight"], int(settings["seed"]))
    return partial(_FUNCTIONS[method], **settings)


def said(method: str, settings: Settings, models: int) -> str:
    """What a method did, in one sentence."""
    vectors = "the task vector" if models == 1 else f"each of {models} task vectors"
    of = {
        "task_arithmetic": "task arithmetic: base + {weight:g} × the sum of the task vectors",
        "ties": "TIES: kept the largest {keep:.3g} of {vectors}, base + {weight:g} × the mean of what agrees in sign",
        "dare": "DARE: dropped {drop:.3g} of {vectors} at random (seed {seed:g}), the rest × 1/(1 − {drop:.3g})",
        "breadcrumbs": "Breadcrumbs: left out the smallest {smallest:.3g} and the largest {largest:.3g} of {vectors}",
        "model_tailor": "Model Tailor: kept {keep:.3g} of {vectors}, adjusted on {samples:g} rows for what it left out",
        "wise_ft": "WiSE-FT: {alpha:g} × base + (1 − {alpha:g}) × tuned",
    }
    return of[method].format(**settings, vectors=vectors)
