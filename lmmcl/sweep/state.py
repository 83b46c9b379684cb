"""How far each run of a sweep is, read from its folder; and the record of what a sweep's runs were made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from lmmcl.errors import UserError
from lmmcl.run.checkpoint import BrokenFileError, Checkpoint, as_json, write_atomically
from lmmcl.run.run_folder import RunFolder
from lmmcl.run.run_lock import holder
from lmmcl.sweep.grid import Planned

OWN = ".sweep"
"""The folder of a sweep's own files beside those of its runs; ``*/`` of a shell does not name it."""
RECORD = "sweep.json"
State = Literal["new", "begun", "running", "finished"]


def state_of(folder: Path) -> State:
    """How far a run is.

    Returns:
        ``running`` while any process writes it, ``finished`` once its last stage is written and summed up, ``begun``
        where there is something to go on with.
    """
    if holder(folder) is not None:
        return "running"
    run = RunFolder(folder)
    if not run.config.exists():
        return "new"
    for path in sorted(run.last.iterdir(), reverse=True) if run.last.exists() else []:
        checkpoint = Checkpoint(path)
        if not checkpoint.finished:
            continue
        try:
            done = checkpoint.state["position"]["phase"] == "done"
        except BrokenFileError:
            continue
        # The pictures and the summary come after the last checkpoint; a resume makes them.
        told = (folder / "summary.json").exists() or not run.matrix.exists()
        return "finished" if done and told else "begun"
    return "begun"


def origins(runs: Sequence[Planned]) -> dict[str, dict[str, object]]:
    """By run, its words and a hash of every YAML that they name."""
    return {
        run.name: {
            "words": list(run.words),
            "configs": {
                word: hashlib.sha256(Path(word).read_bytes()).hexdigest()
                for flag, word in zip(run.words, run.words[1:], strict=False)
                if flag == "--config"
            },
        }
        for run in runs
    }


def check_record(folder: Path, runs: Sequence[Planned], states: Mapping[str, State]) -> None:
    """Refuses to count runs as done that were made from something else; then records what these are made from.

    Raises:
        UserError: a run that was begun had other words, or a YAML of it has changed since.
    """
    path = folder / OWN / RECORD
    before = json.loads(path.read_bytes()) if path.exists() else {}
    now = origins(runs)
    for name, origin in now.items():
        if states[name] == "new" or name not in before or before[name] == origin:
            continue
        changed = [
            file for file, value in _files(origin).items() if _files(before[name]).get(file, value) != value
        ]
        what = f"{changed[0]} has changed since" if changed else "with other options or configs"
        raise UserError(
            f"sweep: {folder / name} was begun from something else ({what}), and would not be comparable. "
            "Restore that, remove the folder, or choose another one with --runs."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, as_json({**before, **now}))


def _files(origin: Mapping[str, object]) -> dict[str, str]:
    files = origin["configs"]
    assert isinstance(files, dict)
    return files
