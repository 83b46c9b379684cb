"""What a run folder tells about one of its stages, read for a model card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from lmmcl.evaluation.matrix import Matrix, Stage
from lmmcl.evaluation.rebuilt_matrix import was_measured
from lmmcl.provenance import data_of, without_paths
from lmmcl.redaction import without_secrets
from lmmcl.run.run_folder import LINEAGE, RunFolder


class StageFacts:
    """What is known of a stage of a run.

    Args:
        run: folder of the run.
        stage: such as ``02-word``.

    Attributes:
        index: number of the stage.
        config: what decided the result, as ``config.json`` holds it.
        given: what the user wrote; empty: a run from Python.
        lineages: of the stages up to this one.
        base: the base model, without the folder that it lies in.
        taught: the tasks that the stage has seen.
        matrix: scores; None: the run was not measured.
    """

    def __init__(self, run: RunFolder, stage: str) -> None:
        self.stage = stage
        self.index = int(stage.partition("-")[0])
        self.run = run
        self.config: dict[str, Any] = without_secrets(json.loads(run.config.read_bytes()))
        written = run.path / "config.yaml"  # of the command line; a run from Python has none
        given = yaml.safe_load(written.read_text()) if written.exists() else {}
        self.given: dict[str, Any] = without_secrets(given)
        # Not run.lineage, which reads every byte of every stage to verify it.
        stages = run.stages()[: self.index + 1]
        self.lineages = [json.loads((run.stage(name) / LINEAGE).read_text()) for name in stages]
        self.base = str(without_paths(str(self.config["model"]["path"]), "path"))
        self.taught = list(self.lineages[-1]["tasks"])
        # A sequence without HeldOutEvaluation has none.
        measured = run.matrix.exists() or was_measured(run.path)
        self.matrix = Matrix.load(run.path) if measured else None

    @property
    def title(self) -> str:
        """The base model and what it was taught."""
        base = self.base.rpartition("/")[2]
        return f"{base}, taught {', '.join(self.taught)}" if self.taught else base

    @property
    def copied(self) -> bool:
        """Whether hub data was read from local copies."""
        return bool((self.given.get("data") or {}).get("root"))

    def specs(self, key: str) -> dict[str, Any]:
        """Task name to what the YAML says of it, by role (``tasks`` or ``held_out``)."""
        names = [task["name"] for task in self.config["data"][key]]
        written = (self.given.get("data") or {}).get(key) or []
        return dict(zip(names, written if len(written) == len(names) else [None] * len(names), strict=True))

    def datasets(self) -> list[str]:
        """Hub datasets among what it was taught."""
        taught = [spec for name, spec in self.specs("tasks").items() if name in self.taught]
        return list(dict.fromkeys(name for spec in taught for name in data_of(spec)[1]))

    def data_of(self, spec: Any) -> str:
        """What a task is made of, in words."""
        return data_of(spec, self.copied)[0]

    def rows(self) -> list[Stage]:
        """The rows of the matrix up to this stage; empty where nothing was measured."""
        return [row for row in self.matrix.finals if row.index <= self.index] if self.matrix else []

    def estimates(self) -> Mapping[str, Any]:
        """The run's statistics, by name; empty unless they were made of the stages up to this one."""
        summary = self.run.path / "summary.json"
        held: Mapping[str, Any] = json.loads(summary.read_bytes()) if summary.exists() else {}
        estimates: Mapping[str, Any] = held.get("estimates", {})
        return estimates if held.get("stages") == self.index else {}

    def environment(self) -> Mapping[str, Any]:
        """Versions and machine; empty where the run did not write them."""
        written = self.run.path / "environment.json"
        held: Mapping[str, Any] = json.loads(written.read_bytes()) if written.exists() else {}
        return held
