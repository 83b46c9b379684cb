"""The runs of a grid: every combination of the values of its axes, each with a name and its words for ``lmmcl fit``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from lmmcl.errors import UserError

CONFIG = "config"
"""The axis whose values are further YAMLs."""
_OPEN, _CLOSE = "[{", "]}"
_ODD = re.compile(r"[^\w.+=,-]+")


@dataclass(frozen=True)
class Axis:
    """One key and the values that it takes.

    Args:
        key: of the YAML, with dots, or ``config``.
        values: as the command line writes them.
    """

    key: str
    values: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Axis:
        """Reads ``model.recipe=full,sa_proj,[sa_proj,projector]``: commas inside brackets and quotes part nothing.

        Raises:
            UserError: it names no key, no value, or a value twice.
        """
        key, equals, values = text.partition("=")
        parts = tuple(part.strip() for part in _parted(values))
        if not equals or not key.strip() or not values.strip() or not all(parts):
            raise UserError(
                f"--grid must be KEY=VALUE,VALUE,..., got {text!r}; for example --grid seed=0,1,2."
            )
        twice = sorted({part for part in parts if parts.count(part) > 1})
        if twice:
            raise UserError(f"--grid: {key} has the value {twice[0]} twice; give it once.")
        return cls(key.strip().removeprefix("--"), parts)

    def words(self, value: str) -> list[str]:
        """What ``lmmcl fit`` is told for one of the values."""
        return [f"--{self.key}", value]

    def label(self, value: str) -> str:
        """The part that a value has in the name of a run."""
        if self.key == CONFIG:
            return Path(value).stem
        return f"{self.key.rpartition('.')[2]}={_ODD.sub('-', value).strip('-')}"


@dataclass(frozen=True)
class Planned:
    """One run of a sweep.

    Args:
        name: unique in the sweep; its folder's name.
        folder: of the run.
        words: behind ``lmmcl fit``.
    """

    name: str
    folder: Path
    words: tuple[str, ...]


def planned(axes: Sequence[Axis], configs: Sequence[str], rest: Sequence[str], folder: Path) -> list[Planned]:
    """Every combination, the last axis changing fastest.

    Args:
        axes: of the grid.
        configs: YAMLs of all runs; those of the axis ``config`` follow them, since later ones win.
        rest: further words for every run; the grid's follow them.
        folder: where the folders of the runs are made.

    Raises:
        UserError: a key stands on two axes, or two combinations have one name.
    """
    keys = [axis.key for axis in axes]
    again = next((key for key in keys if key != CONFIG and keys.count(key) > 1), None)
    if again is not None:
        raise UserError(f"--grid: {again} is given twice; write all of its values behind one --grid.")
    for key in ("run", "ckpt_path"):
        if key in keys:
            raise UserError(
                f"--grid: {key} is set by the sweep itself, every run has a folder; leave it out."
            )
    runs: dict[str, Planned] = {}
    for values in product(*(axis.values for axis in axes)):
        chosen = list(zip(axes, values, strict=True))
        name = ",".join(axis.label(value) for axis, value in chosen)
        if name in runs:
            raise UserError(f"--grid: two runs would be called {name}; give their YAMLs names that differ.")
        own = [value for axis, value in chosen if axis.key == CONFIG]
        words = [word for path in (*configs, *own) for word in ("--config", path)] + list(rest)
        words += [word for axis, value in chosen if axis.key != CONFIG for word in axis.words(value)]
        runs[name] = Planned(name, folder / name, (*words, "--run", str(folder / name)))
    return list(runs.values())


def _parted(text: str) -> Iterator[str]:
    """The parts between commas that stand in no bracket and no quote."""
    depth, quote, part = 0, "", ""
    for letter in text:
        if letter == "," and not depth and not quote:
            yield part
            part = ""
            continue
        part += letter
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        else:
            depth += (letter in _OPEN) - (letter in _CLOSE)
    yield part
