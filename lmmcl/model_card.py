"""The model card of an exported stage: what it comes from, what it was taught, and what that changed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from lmmcl.evaluation.callback_kinds import is_mitigation
from lmmcl.evaluation.matrix import Cell, Matrix, Stage
from lmmcl.evaluation.rebuilt_matrix import was_measured
from lmmcl.provenance import HUB_ID, data_of, without_paths
from lmmcl.redaction import without_secrets
from lmmcl.run.run_folder import LINEAGE, RunFolder

_NOT_SETTINGS = {"run", "resume", "root", "num_workers", "checkpoint_every_n_steps"}
_HEADLINES = {
    "target_learning": "target learning: each target at its own stage, against the base model",
    "target_forgetting": "target forgetting: earlier targets at the end, against their own stage",
    "target_overall": "target overall: all targets at the end, against the base model",
    "held_out_change": "held-out change: held-out tasks at the end, against the base model",
}


def model_card(run: RunFolder, stage: str, rounding: str) -> str:
    """The README.md of an exported stage, in the form of the Hugging Face hub.

    Args:
        run: folder of the run.
        stage: such as ``02-word``.
        rounding: what the export's dtype took, in a sentence.

    Returns:
        Markdown with YAML front matter; it holds no path of this machine.
    """
    card = _Card(run, stage)
    parts = [
        f"---\n{yaml.safe_dump(card.front_matter(), sort_keys=False, allow_unicode=True)}---",
        f"# {card.title}",
        card.introduction(),
        "## How to load it",
        card.loading(),
        "## What it was taught",
        card.stages_table() or "Nothing: this is the base model.",
        *([f"Against forgetting: {card.mitigations()}."] if card.mitigations() else []),
        "## Scores",
        card.scores_table() or "The run was not measured.",
        *card.numbers(),
        "## Rounding",
        f"{rounding}",
        "## How it was made",
        card.making(),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


class _Card:
    """What a run folder tells about one of its stages."""

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
        base = self.base.rpartition("/")[2]
        return f"{base}, taught {', '.join(self.taught)}" if self.taught else base

    def specs(self, key: str) -> dict[str, Any]:
        """Task name to what the YAML says of it, by role (``tasks`` or ``held_out``)."""
        names = [task["name"] for task in self.config["data"][key]]
        written = (self.given.get("data") or {}).get(key) or []
        return dict(zip(names, written if len(written) == len(names) else [None] * len(names), strict=True))

    def data_of(self, spec: Any) -> str:
        """What a task is made of, in words."""
        return data_of(spec, copied=bool((self.given.get("data") or {}).get("root")))[0]

    def front_matter(self) -> dict[str, Any]:
        """What the hub reads: library, base model, datasets and results."""
        taught = [spec for name, spec in self.specs("tasks").items() if name in self.taught]
        datasets = dict.fromkeys(name for spec in taught for name in data_of(spec)[1])
        matter: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "image-text-to-text"}
        if HUB_ID.fullmatch(self.base):
            matter["base_model"] = self.base
            matter["base_model_relation"] = "finetune"
        if datasets:
            matter["datasets"] = list(datasets)
        matter["tags"] = ["lmmcl", "continual-learning", "image-text-to-text"]
        row = self._rows()[-1:] if self.matrix else []
        if row and row[0].name == self.stage:
            matter["model-index"] = [{"name": self.title, "results": [*map(_result, row[0].cells.items())]}]
        return matter

    def introduction(self) -> str:
        revision = self.config["model"].get("revision")
        origin = f"`{self.base}`{f' (revision {revision})' if revision else ''}"
        if self.config["model"].get("from_scratch"):
            origin = f"new weights of the shape of {origin} (seed {self.config['model']['seed']})"
        if not self.taught:
            return f"This is the base model of a sequence of tasks: {origin}."
        return (
            f"This is {origin} after stage {self.index} (`{self.stage}`) of a sequence of tasks taught one after the "
            "other with lmmcl. The licence of the base model holds."
        )

    def loading(self) -> str:
        remote = ", trust_remote_code=True" if self.config["model"].get("trust_remote_code") else ""
        return (
            "```python\nfrom transformers import AutoModelForImageTextToText, AutoProcessor\n\n"
            'path = "."  # this folder, or its id on the hub\n'
            f'model = AutoModelForImageTextToText.from_pretrained(path, dtype="auto"{remote})\n'
            f"processor = AutoProcessor.from_pretrained(path{remote})\n```"
        )

    def stages_table(self) -> str:
        settings = {task["name"]: task for task in self.config["data"]["tasks"]}
        specs = self.specs("tasks")
        lines = []
        for lineage in self.lineages[1:]:
            name = lineage["tasks"][-1]
            task = settings[name]
            recipe = without_paths(lineage["recipe"])
            lines.append(
                [
                    str(lineage["index"]),
                    name,
                    self.data_of(specs[name]),
                    f"{lineage['rows']:,}" if "rows" in lineage else "-",
                    f"`{str(task['rows'])[:12]}`",
                    str(task["epochs"]),
                    f"{task['lr'] or self.config['model']['lr']:g}",
                    f"`{recipe if isinstance(recipe, str) else json.dumps(recipe)}`",
                ]
            )
        head = ["stage", "task", "data", "rows", "fingerprint", "epochs", "learning rate", "trains"]
        return _table(head, lines) if lines else ""

    def mitigations(self) -> str:
        """The callbacks that fight forgetting, and their settings."""
        found = []
        for path, settings in self.config["callbacks"]:
            name = path.rpartition(".")[2]
            if is_mitigation(path):
                values = [f"{k} {without_paths(v)}" for k, v in settings.items() if k != "name"]
                found.append(f"{name} ({', '.join(values)})" if values else name)
        return ", ".join(found)

    def _rows(self) -> list[Stage]:
        return [row for row in self.matrix.finals if row.index <= self.index] if self.matrix else []

    def scores_table(self) -> str:
        rows = self._rows()
        if not rows or self.matrix is None:
            return ""
        lines = []
        for task in self.matrix.tasks:
            role = "target" if task in self.matrix.targets else "held-out"
            cells = [row.cells.get(task) for row in rows]
            first = cells[0]
            texts = [
                "-" if cell is None else _score(cell, None if i == 0 else first)
                for i, cell in enumerate(cells)
            ]
            specs = self.specs("tasks" if role == "target" else "held_out")
            data = self.data_of(specs[task]) if task in specs else "measured by a callback"
            examples = next((str(cell.n) for cell in cells if cell is not None), "-")
            lines.append([task, role, data, examples, *texts])
        heads = ["base model", *(f"after {row.name}" for row in rows[1:])]
        caption = "Scores from 0 to 100; in brackets the change from the base model in points."
        return f"{caption}\n\n{_table(['task', 'role', 'data', 'examples', *heads], lines)}"

    def numbers(self) -> Iterable[str]:
        """Learning and forgetting with their intervals, where the stage is the last one."""
        summary = self.run.path / "summary.json"
        if not summary.exists():
            return
        held = json.loads(summary.read_bytes())
        if held["stages"] != self.index:
            return
        lines = [
            [text, _signed(value["value"]), f"[{_signed(value['low'])}, {_signed(value['high'])}]"]
            for name, text in _HEADLINES.items()
            if (value := held["estimates"].get(name)) and value["value"] is not None
        ]
        yield _table(["points", "mean", "95 % interval"], lines)

    def making(self) -> str:
        environment = self.run.path / "environment.json"
        held = json.loads(environment.read_bytes()) if environment.exists() else {}
        packages = {"python": held.get("python"), **held.get("packages", {})}
        versions = ", ".join(f"{name} {release}" for name, release in packages.items() if release)
        text = f"Versions: {versions}." if versions else ""
        if not self.given:
            return f"A run from Python (`Trainer.fit`) of lmmcl. {text}"
        kept = {key: self.given[key] for key in ("model", "data", "trainer", "seed") if key in self.given}
        kept["trainer"] = {
            key: value
            for key, value in kept.get("trainer", {}).items()
            if key in ("callbacks", "devices", "gradient_clip_val", "num_nodes", "precision", "strategy")
        }
        model = {"path": self.base, **_settings(kept.get("model", {}))}
        plain = {"model": model, **{key: value for key, value in _settings(kept).items() if key != "model"}}
        return (
            f"`lmmcl fit --config config.yaml`, with this config (folders of the machine are left out):\n\n"
            f"```yaml\n{yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)}```\n\n{text}"
        )


def _settings(value: Any) -> Any:
    """A config without empty values, without what does not decide the result, and without paths."""
    if isinstance(value, Mapping):
        inner = {key: _settings(item) for key, item in value.items() if key not in _NOT_SETTINGS}
        return without_paths({key: item for key, item in inner.items() if item is not None and item != {}})
    return [_settings(item) for item in value] if isinstance(value, list) else value


def _signed(change: float) -> str:
    text = f"{change:+.1f}"
    return text if float(text) else "0.0"


def _score(cell: Cell, base: Cell | None) -> str:
    return f"{cell.score:.1f}" if base is None else f"{cell.score:.1f} ({_signed(cell.score - base.score)})"


def _result(entry: tuple[str, Cell]) -> dict[str, Any]:
    task, cell = entry
    return {
        "task": {"type": "image-text-to-text"},
        "dataset": {"name": task, "type": task},
        "metrics": [{"name": "score, 0 to 100", "type": "score", "value": round(cell.score, 2)}],
    }


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)
