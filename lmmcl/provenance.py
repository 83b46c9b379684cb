"""Where a model and its data come from, told without the paths of this machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_FILES = {"path", "image_folder", "train", "dev", "test"}
"""Keys of a task whose values name files."""


def without_paths(value: Any, key: str = "") -> Any:
    """A plain value in which every path of this machine is only its last part; hub ids stay whole.

    Args:
        value: of a config: mappings, lists, texts and numbers.
        key: that it stands under; keys of files hold paths, whatever they look like.
    """
    if isinstance(value, Mapping):
        return {name: without_paths(inner, str(name)) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(inner, key) for inner in value]
    if not isinstance(value, str):
        return value
    on_disk = value.startswith(("/", "~", "./", "../")) or re.match(r"[A-Za-z]:[\\/]", value)
    named = "/" in value and (key in _FILES or (len(value) < 255 and Path(value).exists()))
    hub = key == "path" and HUB_ID.fullmatch(value) and not Path(value).exists()
    return re.split(r"[\\/]", value.rstrip("\\/"))[-1] if on_disk or (named and not hub) else value


def data_of(spec: Any, copied: bool = False) -> tuple[str, list[str]]:
    """What a task is made of, in words, and the hub datasets among it.

    Args:
        spec: of the task, as the YAML holds it.
        copied: hub data was read from local copies (``data.root``), which are taken as they are.
    """
    given = spec if isinstance(spec, Mapping) else {"task": spec}
    if "hub" in given:
        parts = [f"config {given['config']}"] if given.get("config") else []
        parts.append(_version(given.get("revision"), copied))
        return f"{given['hub']} ({', '.join(parts)})", [str(given["hub"])]
    if "path" in given:
        return f"own files: {_file_names(given['path'])}", []
    # A merge and an export, which only leave paths out, need none of what data are read with.
    from lmmcl.data.hub.source import HubSource
    from lmmcl.data.parse import built_in_tasks

    source = getattr(built_in_tasks().get(str(given.get("task"))), "source", None)
    datasets: list[str] = []
    text = "the picture world of lmmcl" if source is not None else "given from Python"
    if isinstance(source, HubSource):
        tables = dict.fromkeys(source.parts.values())
        text = "; ".join(f"{table}, {_version(table.revision, copied)}" for table in tables)
        datasets = list(dict.fromkeys(table.dataset for table in tables))
    return f"own files: {_file_names(given['train'])}; {text}" if "train" in given else text, datasets


def _version(revision: str | None, copied: bool) -> str:
    """Which state of a hub dataset was read, as far as it is known."""
    return "a local copy" if copied else f"revision {revision or 'newest at the time'}"


def _file_names(files: Any) -> str:
    """Names, without folders, of what ``path`` or ``train`` lists."""
    if isinstance(files, Mapping | list):
        return ", ".join(
            _file_names(file) for file in (files.values() if isinstance(files, Mapping) else files)
        )
    return str(without_paths(str(files), "train"))
