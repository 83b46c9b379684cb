"""Every key that a config may have, with its type, default and meaning, as the command line's parser knows them."""

from __future__ import annotations

import argparse
import re
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

TRAINER = {
    "accelerator": "where it runs: auto, cpu, gpu, mps.",
    "strategy": "how several processes share the work: auto, ddp (copies the model) or fsdp2 (shards it).",
    "devices": "number of processes on this machine, or auto for all its devices.",
    "num_nodes": "number of machines.",
    "precision": "bf16-mixed computes in bf16 and keeps what trains in fp32; 32-true computes in fp32.",
    "callbacks": "mitigations and probes, in order: names, or class_path and init_args.",
    "gradient_clip_val": "largest norm of the gradient; null does not clip.",
    "gradient_clip_algorithm": "norm or value.",
    "deterministic": "only kernels that give the same bits every time; needed for equal bytes on a GPU.",
    "benchmark": "let cuDNN choose its kernels by trying.",
    "detect_anomaly": "name the operation that made a gradient nan; slow.",
    "enable_progress_bar": "false shows no steps; plan, notices, scores and summary are printed in any case.",
    "logger": "one of Lightning's loggers beside the run's own log.",
    "profiler": "simple, advanced or pytorch: where the time goes.",
}
"""What a sequence uses of Lightning's Trainer, in our words: Lightning's describe defaults that are not ours."""

_HINTS = {"trainer.precision": Literal["bf16-mixed", "32-true"]}
"""Types where a sequence takes less than Lightning."""
_KINDS = {int: "INT", float: "NUMBER", bool: "true|false", str: "TEXT", type(None): "null"}


@dataclass(frozen=True)
class Key:
    """A key of the YAML, which is an option, too.

    Args:
        name: with dots (``model.lr``).
        hint: its type.
        default: its value where the YAML does not give it.
        text: what it means; empty where nobody says.
        required: whether it has no default.
        appends: whether ``name+`` adds to the list of an earlier config.
    """

    name: str
    hint: Any
    default: Any
    text: str
    required: bool = False
    appends: bool = False

    @property
    def group(self) -> str:
        """``model``, ``data``, ``trainer``; empty at the top."""
        return self.name.rpartition(".")[0]

    @property
    def kind(self) -> str:
        """Its type in a word or two."""
        return kind_of(self.hint)


def keys_of(parser: ArgumentParser) -> list[Key]:
    """All keys of a parser, in its order, without those that are given once for several (``model.seed``)."""
    return list(_keys(parser))


def _keys(parser: ArgumentParser) -> Iterator[Key]:
    for action in parser._actions:
        hint = getattr(action, "_typehint", action.type)
        # Helps, links and the loaders of a group's own file are no keys; jsonargparse marks them by their class.
        if hint is None or type(action).__name__ != "ActionTypeHint":
            continue
        group, _, name = action.dest.rpartition(".")
        text = action.help if action.help not in (None, argparse.SUPPRESS) else ""
        if group == "trainer":
            text = TRAINER.get(name) or sentence(str(text))
        # jsonargparse lets every list grow; nobody adds to one that stands in the place of true.
        grows = bool not in get_args(hint) and any(option.endswith("+") for option in action.option_strings)
        hint = _HINTS.get(action.dest, hint)
        # jsonargparse keeps its list of required options elsewhere: a default that the type does not allow tells.
        required = action.default is None and hint is not Any and type(None) not in get_args(hint)
        yield Key(action.dest, hint, action.default, plain(str(text)), required, grows)


def plain(text: str) -> str:
    """A docstring's text on one line, without its markup."""
    return re.sub(r":\w+:`~?([^`]+)`|``|`", r"\1", " ".join(text.split()))


def sentence(text: str) -> str:
    """The first sentence of a text."""
    return re.split(r"(?<=[.;:])\s", " ".join(text.split()), maxsplit=1)[0].rstrip(";:")


def kind_of(hint: Any) -> str:
    """A type in a word or two, as a usage shows it."""
    if hint in _KINDS:
        return _KINDS[hint]
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return "|".join(str(value) for value in inner)
    if origin is not None and (origin is Union or origin.__name__ in ("UnionType", "Union")):
        kinds = list(dict.fromkeys(kind_of(option) for option in inner))
        return "|".join(kind for kind in kinds if kind not in ("MAPPING", "VALUE"))
    name = getattr(origin or hint, "__name__", "")
    if name in ("list", "tuple", "Sequence", "Iterable"):
        return "LIST"
    return "MAPPING" if name in ("dict", "Mapping") else "PATH" if name == "Path" else "VALUE"
