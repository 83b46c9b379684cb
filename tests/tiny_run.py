"""A whole run of the command line on a tiny checkpoint, small enough to be made inside a test."""

from __future__ import annotations

import contextlib
import io
import textwrap
from dataclasses import dataclass
from pathlib import Path

from lmmcl.cli import main

CONFIG = """
model: {{path: {checkpoint}, lr: 0.01, checkpoint_every_n_steps: 2}}
data:
  tasks: [{{task: count, max_train_samples: 12}}, {{task: word, max_train_samples: 6, epochs: 2, recipe: mlp_gate_up}}]
  held_out: [chart, caption]
  batch_size: 4
  max_eval_samples: 5
trainer:
  precision: 32-true
  callbacks:
    - class_path: HeldOutEvaluation
      init_args: {{canary_every_n_steps: 2, canary_samples: 4}}
    - LwF
    - {{class_path: WiSEFT, init_args: {{alpha: 0.3}}}}
run: {run}
"""
STEPS = 3 + 2 * 2


@dataclass(frozen=True)
class TinyRun:
    """What a run of the command line left and said."""

    config: Path
    path: Path
    code: int
    output: str
    errors: str


def write_config(folder: Path, checkpoint: Path, run: Path, more: str = "") -> Path:
    """Writes a YAML; ``more`` are further YAML lines, at the top level."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tiny.yaml"
    text = CONFIG.format(checkpoint=checkpoint, run=run) + textwrap.dedent(more)
    path.write_text(text.lstrip())
    return path


def command(*words: object) -> tuple[int, str, str]:
    """Runs a command in this process: exit code, output, errors."""
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            code = main([str(word) for word in words])
        except SystemExit as leaving:
            code = int(leaving.code or 0)
    return code, output.getvalue(), errors.getvalue()


def tiny_run(folder: Path, checkpoint: Path, more: str = "") -> TinyRun:
    """``lmmcl fit`` on the tiny config."""
    config = write_config(folder, checkpoint, folder / "run", more)
    return TinyRun(config, folder / "run", *command("fit", "--config", config))


def contents(run: Path) -> dict[str, bytes]:
    """The files of a run that are the same however often it was killed."""
    kept = (
        "stages",
        "predictions",
        "matrix",
        "logs/metrics",
        "summary",
        "figures",
        "report",
        "tables",
        "flips",
    )
    files = {str(path.relative_to(run)): path for path in sorted(run.rglob("*")) if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name.startswith(kept)}
