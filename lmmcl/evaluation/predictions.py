"""The store of predictions: one file per stage and task, found again by what they depend on."""

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmmcl.evaluation.result import TaskResult
from lmmcl.run.checkpoint import as_json, naming_disk_errors, write_atomically

INDEX = "index.json"


def result_key(weights: str, task: str, settings: Mapping[str, Any]) -> str:
    """The name of a result by all it depends on.

    Args:
        weights: checksum of the model's weights.
        task: fingerprint of the task's rows.
        settings: what else changes an answer or its score (scorer, most new tokens, precision, batch size,
            limit).

    Returns:
        A hexadecimal SHA-256.
    """
    return hashlib.sha256(as_json({"weights": weights, "task": task, "settings": settings})).hexdigest()


@dataclass(frozen=True)
class PredictionStore:
    """The folder ``predictions/`` of a run: ``<stage>/<task>.jsonl``, and an ``index.json`` per stage.

    A file is written in one step when its task is done and entered in the index after that, so that a kill
    leaves whole results only. Nothing in it depends on the time. Call it on one process.
    """

    folder: Path
    _others: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict, compare=False, repr=False)
    """Indices of the stages before, each read once: they do not change while another stage is measured."""

    def find(self, stage: str, task: str, key: str) -> TaskResult | None:
        """The result with this key, from this stage or from any other stage of the run, or None.

        One that another stage holds is copied to this one: a stage that changed nothing costs nothing. A
        damaged file is passed over with a warning that names it, so that it is made again.
        """
        for name, index in self._stages(first=stage):
            entry = index.get(task)
            if entry is None or entry["key"] != key:
                continue
            data = self._verified(self.folder / name / f"{task}.jsonl", entry["sha256"])
            if data is not None:
                if name != stage:
                    self._write(stage, task, key, data)
                return TaskResult.from_jsonl(task, data)
        return None

    def write(self, stage: str, key: str, result: TaskResult) -> None:
        """Keeps a task's result under its key, in place of any older one of the stage."""
        self._write(stage, result.task, key, result.to_jsonl())

    def keep(self, stage: str, key: str, result: TaskResult) -> None:
        """Keeps a result unless the stage holds the same answers already, under whatever key."""
        entry = self._index(stage).get(result.task)
        if entry is None or entry["sha256"] != hashlib.sha256(result.to_jsonl()).hexdigest():
            self.write(stage, key, result)

    def read(self, stage: str, task: str) -> TaskResult:
        """The result of a task at a stage, whatever its key.

        Raises:
            FileNotFoundError: the stage holds no whole result of the task.
        """
        entry = self._index(stage).get(task)
        path = self.folder / stage / f"{task}.jsonl"
        data = self._verified(path, entry["sha256"]) if entry is not None else None
        if data is None:
            raise FileNotFoundError(
                f"{path} is missing or damaged; put it back from a copy (lmmcl validate measures the stage anew)"
            )
        return TaskResult.from_jsonl(task, data)

    def _write(self, stage: str, task: str, key: str, data: bytes) -> None:
        folder = self.folder / stage
        with naming_disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / f"{task}.jsonl", data)
        entry = {"key": key, "sha256": hashlib.sha256(data).hexdigest()}
        write_atomically(folder / INDEX, as_json({**self._index(stage), task: entry}))

    def _stages(self, first: str) -> Iterator[tuple[str, dict[str, dict[str, str]]]]:
        yield first, self._index(first)
        if not self._others and self.folder.exists():
            names = sorted(path.parent.name for path in self.folder.glob(f"*/{INDEX}"))
            self._others.update((name, self._index(name)) for name in names)
        yield from ((name, index) for name, index in self._others.items() if name != first)

    def _index(self, stage: str) -> dict[str, dict[str, str]]:
        path = self.folder / stage / INDEX
        try:
            index = json.loads(path.read_bytes())
            return {task: {"key": entry["key"], "sha256": entry["sha256"]} for task, entry in index.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, KeyError, AttributeError):
            warnings.warn(f"{path} is damaged; the tasks of its stage are measured again.", stacklevel=2)
            return {}

    def _verified(self, path: Path, sha256: str) -> bytes | None:
        data = path.read_bytes() if path.exists() else b""
        if hashlib.sha256(data).hexdigest() == sha256:
            return data
        warnings.warn(f"{path} is missing, truncated or changed; its task is measured again.", stacklevel=2)
        return None
