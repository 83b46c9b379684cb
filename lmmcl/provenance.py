"""Where a model and its data come from, told without the paths of this machine."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_FILES = {"path", "image_folder", "train", "dev", "test"}
"""Keys of a task whose values name files."""
_TRAINER = {"callbacks", "devices", "gradient_clip_val", "num_nodes", "precision", "strategy"}
"""Keys of ``trainer`` that decide the result."""


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


def config_again(given: Mapping[str, Any], left_out: Collection[str]) -> dict[str, Any]:
    """The part of a config that makes a run again, without empty values and without folders of this machine.

    Args:
        given: what the user wrote.
        left_out: keys, of any part, that decide nothing of the result.
    """

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            inner = {key: plain(item) for key, item in value.items() if key not in left_out}
            held = {key: item for key, item in inner.items() if item is not None and item != {}}
            return without_paths(held)
        return [plain(item) for item in value] if isinstance(value, list) else value

    kept = {key: given[key] for key in ("model", "data", "trainer", "seed") if key in given}
    if "trainer" in kept:
        kept["trainer"] = {key: value for key, value in kept["trainer"].items() if key in _TRAINER}
    again: dict[str, Any] = plain(kept)
    return again


def versions(environment: Mapping[str, Any]) -> str:
    """``python 3.12.3, torch 2.9.0``: what a run was made with, as its ``environment.json`` holds it."""
    packages = {"python": environment.get("python"), **environment.get("packages", {})}
    return ", ".join(f"{name} {release}" for name, release in packages.items() if release)


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
