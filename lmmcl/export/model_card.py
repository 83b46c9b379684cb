"""The model card of an exported stage: what it comes from, what it was taught, and what that changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import yaml

from lmmcl.evaluation.callback_kinds import is_mitigation
from lmmcl.evaluation.matrix import Cell
from lmmcl.export.stage_facts import StageFacts
from lmmcl.provenance import HUB_ID, config_again, versions, without_paths
from lmmcl.run.run_folder import RunFolder

_NOT_SETTINGS = ("run", "resume", "root", "num_workers", "checkpoint_every_n_steps")
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
    facts = StageFacts(run, stage)
    fought = _mitigations(facts)
    parts = [
        f"---\n{yaml.safe_dump(_front_matter(facts), sort_keys=False, allow_unicode=True)}---",
        f"# {facts.title}",
        _introduction(facts),
        "## How to load it",
        _loading(facts),
        "## What it was taught",
        _stages_table(facts) or "Nothing: this is the base model.",
        f"Against forgetting: {fought}." if fought else "",
        "## Scores",
        _scores_table(facts) or "The run was not measured.",
        _headlines_table(facts),
        "## Rounding",
        rounding,
        "## How it was made",
        _making(facts),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(facts: StageFacts) -> dict[str, Any]:
    """What the hub reads: library, base model, datasets and results."""
    matter: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "image-text-to-text"}
    if HUB_ID.fullmatch(facts.base):
        matter["base_model"] = facts.base
        matter["base_model_relation"] = "finetune"
    if datasets := facts.datasets():
        matter["datasets"] = datasets
    matter["tags"] = ["lmmcl", "continual-learning", "image-text-to-text"]
    row = facts.rows()[-1:]
    if row and row[0].name == facts.stage:
        matter["model-index"] = [{"name": facts.title, "results": [*map(_result, row[0].cells.items())]}]
    return matter


def _introduction(facts: StageFacts) -> str:
    model = facts.config["model"]
    revision = model.get("revision")
    origin = f"`{facts.base}`{f' (revision {revision})' if revision else ''}"
    if model.get("from_scratch"):
        origin = f"new weights of the shape of {origin} (seed {model['seed']})"
    if not facts.taught:
        return f"This is the base model of a sequence of tasks: {origin}."
    return (
        f"This is {origin} after stage {facts.index} (`{facts.stage}`) of a sequence of tasks taught one after the "
        "other with lmmcl. The licence of the base model holds."
    )


def _loading(facts: StageFacts) -> str:
    remote = ", trust_remote_code=True" if facts.config["model"].get("trust_remote_code") else ""
    return (
        "```python\nfrom transformers import AutoModelForImageTextToText, AutoProcessor\n\n"
        'path = "."  # this folder, or its id on the hub\n'
        f'model = AutoModelForImageTextToText.from_pretrained(path, dtype="auto"{remote})\n'
        f"processor = AutoProcessor.from_pretrained(path{remote})\n```"
    )


def _stages_table(facts: StageFacts) -> str:
    settings = {task["name"]: task for task in facts.config["data"]["tasks"]}
    specs = facts.specs("tasks")
    lines = []
    for lineage in facts.lineages[1:]:
        name = lineage["tasks"][-1]
        task = settings[name]
        recipe = without_paths(lineage["recipe"])
        lines.append(
            [
                str(lineage["index"]),
                name,
                facts.data_of(specs[name]),
                f"{lineage['rows']:,}" if "rows" in lineage else "-",
                f"`{str(task['rows'])[:12]}`",
                str(task["epochs"]),
                f"{task['lr'] or facts.config['model']['lr']:g}",
                f"`{recipe if isinstance(recipe, str) else json.dumps(recipe)}`",
            ]
        )
    head = ["stage", "task", "data", "rows", "fingerprint", "epochs", "learning rate", "trains"]
    return _table(head, lines) if lines else ""


def _mitigations(facts: StageFacts) -> str:
    """The callbacks that fight forgetting, and their settings."""
    found = []
    for path, settings in facts.config["callbacks"]:
        name = path.rpartition(".")[2]
        if is_mitigation(path):
            values = [f"{k} {without_paths(v)}" for k, v in settings.items() if k != "name"]
            found.append(f"{name} ({', '.join(values)})" if values else name)
    return ", ".join(found)


def _scores_table(facts: StageFacts) -> str:
    matrix, rows = facts.matrix, facts.rows()
    if matrix is None or not rows:
        return ""
    lines = []
    for task in matrix.tasks:
        role = "target" if task in matrix.targets else "held-out"
        cells = [row.cells.get(task) for row in rows]
        first = cells[0]
        texts = [
            "-" if cell is None else _score(cell, None if i == 0 else first) for i, cell in enumerate(cells)
        ]
        specs = facts.specs("tasks" if role == "target" else "held_out")
        data = facts.data_of(specs[task]) if task in specs else "measured by a callback"
        examples = next((str(cell.n) for cell in cells if cell is not None), "-")
        lines.append([task, role, data, examples, *texts])
    heads = ["base model", *(f"after {row.name}" for row in rows[1:])]
    caption = "Scores from 0 to 100; in brackets the change from the base model in points."
    return f"{caption}\n\n{_table(['task', 'role', 'data', 'examples', *heads], lines)}"


def _headlines_table(facts: StageFacts) -> str:
    """Learning and forgetting with their intervals, where the stage is the last one."""
    estimates = facts.estimates()
    lines = [
        [text, _signed(value["value"]), f"[{_signed(value['low'])}, {_signed(value['high'])}]"]
        for name, text in _HEADLINES.items()
        if (value := estimates.get(name)) and value["value"] is not None
    ]
    return _table(["points", "mean", "95 % interval"], lines) if lines else ""


def _making(facts: StageFacts) -> str:
    packages = versions(facts.environment())
    text = f"Versions: {packages}." if packages else ""
    if not facts.given:
        return f"A run from Python (`Trainer.fit`) of lmmcl. {text}"
    again = config_again(facts.given, _NOT_SETTINGS)
    model = {"path": facts.base, **again.get("model", {})}
    plain = {"model": model, **{key: value for key, value in again.items() if key != "model"}}
    return (
        f"`lmmcl fit --config config.yaml`, with this config (folders of the machine are left out):\n\n"
        f"```yaml\n{yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)}```\n\n{text}"
    )


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
