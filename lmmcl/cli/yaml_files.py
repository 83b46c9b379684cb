"""The YAML files of a config as they were written: what a parser lets pass that nobody can have meant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from lmmcl.cli.mistakes import moved
from lmmcl.errors import UserError

_MOVED = ("model.run", "model.seed", "data.seed", "model.resume")


def check_files(paths: Sequence[Path]) -> None:
    """Refuses a key that stands twice, of which YAML keeps the last, and one that belongs to the top.

    Raises:
        UserError: names the key and its lines.
    """
    for path in paths:
        text = path.read_text(encoding="utf-8")
        for key, first, second in _twice(yaml.compose(text, Loader=yaml.SafeLoader)):
            raise UserError(
                f"--config: {path} has the key {key} twice, in lines {first} and {second}; join them, or remove one."
            )
        _refuse_moved_keys(yaml.safe_load(text))


def _twice(node: Any, key: str = "") -> Iterator[tuple[str, int, int]]:
    """Keys that stand twice in one mapping, with both lines."""
    if isinstance(node, yaml.SequenceNode):
        for place, inner in enumerate(node.value):
            yield from _twice(inner, f"{key}.{place}")
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[str, int] = {}
    for name, inner in node.value:
        line, word = name.start_mark.line + 1, f"{key}.{name.value}".lstrip(".")
        if word in lines:
            yield word, lines[word], line
        lines[word] = line
        yield from _twice(inner, word)


def _refuse_moved_keys(config: dict[str, Any]) -> None:
    """What stands at the top of the YAML for all who need it would be overwritten there without a word."""
    for key in _MOVED:
        group, _, name = key.partition(".")
        if name in (config.get(group) or {}):
            raise UserError(moved(key))
