"""`lmmcl fit`: what a run leaves, what it says, and that Python does the same."""

import contextlib
import csv
import json
import sys
import textwrap
from pathlib import Path

import pytest
import yaml
from lightning.pytorch import Trainer

from lmmcl import ContinualLMM, TaskSequenceDataModule
from lmmcl.callbacks import HeldOutEvaluation, LwF, WiSEFT
from lmmcl.cli.sequence_cli import SequenceCLI
from tests.tiny_run import STEPS, TinyRun, command, contents, tiny_run, write_config

LEFT = [
    "config.json",
    "config.yaml",
    "environment.json",
    "figures/curves.png",
    "figures/curves.svg",
    "figures/matrix.png",
    "figures/matrix.svg",
    "logs/metrics.csv",
    "logs/timing.csv",
    "matrix.csv",
    "matrix.json",
    "predictions/02-word/chart.jsonl",
    "stages/00-base/lineage.json",
    "stages/02-word/weights.safetensors",
    "summary.json",
]


def test_a_run_leaves_all_that_its_reader_needs(finished: TinyRun) -> None:
    for name in LEFT:
        assert (finished.path / name).is_file(), name


def test_the_output_tells_plan_progress_tables_and_summary(finished: TinyRun) -> None:
    for words in (
        "sa_proj: llm.attn.{q, k, v, o}",
        "mlp_gate_up: llm.mlp.{gate, up}",
        "LwF (weight 1.0, temperature 2.0, positions answer)",
        "cpu, 32-true, one process",
        "measured on",
        "task 1 of 2 count · step 3/3 · loss",
        "task 2 of 2 word · step 4/4 · loss",
        "held-out KL",
        "base model",
        "after 01-count",
        "after 02-word",
        "target learning",
        "held-out change",
        f"report: {finished.path}/report.html",
        f"run: {finished.path}",
    ):
        assert words in finished.output


def test_a_pipe_gets_no_control_characters_and_no_chatter(finished: TinyRun) -> None:
    assert not {"\x1b", "\r", "\b"} & set(finished.output)
    assert finished.errors == ""


def test_nothing_appears_in_the_working_directory(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    with contextlib.chdir(tmp_path / "here"):
        run = tiny_run(tmp_path / "there", tiny, "seed: 1\n")
    assert run.code == 0
    assert list((tmp_path / "here").iterdir()) == []


def test_the_log_has_every_step_once(finished: TinyRun) -> None:
    text = (finished.path / "logs" / "metrics.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    assert [int(row["step"]) for row in rows] == list(range(1, STEPS + 1))
    assert [row["task"] for row in rows] == ["count"] * 3 + ["word"] * 4
    assert all(float(row[name]) >= 0 for row in rows for name in ("loss", "LwF", "lr", "grad_norm"))
    assert [bool(row["held_out_kl"]) for row in rows] == [False, True, False, False, True, False, True]


def test_python_in_ten_lines_gives_the_same_run(tiny: Path, finished: TinyRun, tmp_path: Path) -> None:
    data = TaskSequenceDataModule(
        tasks=[
            {"task": "count", "max_train_samples": 12},
            {"task": "word", "max_train_samples": 6, "epochs": 2, "recipe": "mlp_gate_up"},
        ],
        held_out=["chart", "caption"],
        batch_size=4,
        max_eval_samples=5,
    )
    module = ContinualLMM(str(tiny), lr=1e-2, run=tmp_path / "run", checkpoint_every_n_steps=2)
    trainer = Trainer(
        callbacks=[HeldOutEvaluation(canary_every_n_steps=2, canary_samples=4), LwF(), WiSEFT(alpha=0.3)],
        precision="32-true",
        gradient_clip_val=1.0,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data)
    found, told = contents(tmp_path / "run"), contents(finished.path)
    # The command line keeps the YAML and the environment, which the page shows.
    assert found.pop("report.html") != told.pop("report.html")
    assert found == told


def test_the_written_config_makes_the_same_run_again(finished: TinyRun, tmp_path: Path) -> None:
    code, _, errors = command("fit", "--config", finished.path / "config.yaml", "--run", tmp_path / "again")
    assert code == 0, errors
    assert contents(tmp_path / "again") == contents(finished.path)


def test_a_finished_run_that_is_resumed_stays_as_it_is(finished: TinyRun) -> None:
    before = contents(finished.path)
    code, output, errors = command("fit", "--config", finished.config, "--ckpt_path", "last")
    assert code == 0, errors
    assert "target learning" in output
    assert contents(finished.path) == before


def test_held_out_evaluation_is_added_where_the_yaml_does_not_name_it(tiny: Path, tmp_path: Path) -> None:
    config = tmp_path / "plain.yaml"
    config.write_text(
        f"model: {{path: {tiny}}}\ndata: {{tasks: [{{task: count, max_train_samples: 4}}], max_eval_samples: 3}}\n"
        f"run: {tmp_path / 'run'}\n"
    )
    code, _, errors = command("fit", "--config", config)
    assert code == 0, errors
    assert [stage["name"] for stage in json.loads((tmp_path / "run/matrix.json").read_text())["stages"]] == [
        "00-base",
        "01-count",
    ]


def test_a_callback_from_the_working_directory_is_used(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "callbacks" / "mine.py"
    mine.parent.mkdir()
    mine.write_text(
        "from pathlib import Path\n"
        "from lmmcl import Mitigation\n"
        "class Mine(Mitigation):\n"
        "    def __init__(self, path: str, name: str | None = None) -> None:\n"
        "        super().__init__(name)\n"
        "        self.path = path\n"
        "    def on_task_start(self, trainer, module, task):\n"
        "        Path(self.path).write_text(task.name)\n"
    )
    here = {"", str(Path.cwd()), str(Path(__file__).parents[2])}
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in here])
    monkeypatch.delitem(sys.modules, "callbacks", raising=False)
    monkeypatch.chdir(tmp_path)
    config = write_config(tmp_path, tiny, tmp_path / "run")
    said = tmp_path / "said"
    own = f"[{{class_path: callbacks.mine.Mine, init_args: {{path: {said}}}}}]"
    code, _, errors = command(
        "fit",
        "--config",
        config,
        "--trainer.callbacks",
        own,
        "--data.tasks",
        "[{task: count, max_train_samples: 4}]",
    )
    assert code == 0, errors
    assert said.read_text() == "count"


def test_loggers_of_lightning_get_the_same_numbers(tiny: Path, tmp_path: Path) -> None:
    more = f"""
      logger:
        class_path: CSVLogger
        init_args: {{save_dir: {tmp_path}, name: theirs, version: ""}}
    """
    config = write_config(tmp_path, tiny, tmp_path / "run")
    config.write_text(
        config.read_text().replace(
            "  callbacks:", textwrap.indent(textwrap.dedent(more), "  ") + "  callbacks:"
        )
    )
    code, _, errors = command("fit", "--config", config)
    assert code == 0, errors
    theirs = list(csv.DictReader((tmp_path / "theirs" / "metrics.csv").read_text().splitlines()))
    ours = list(csv.DictReader((tmp_path / "run" / "logs" / "metrics.csv").read_text().splitlines()))
    assert [float(row["loss"]) for row in theirs] == pytest.approx(
        [float(row["loss"]) for row in ours], rel=1e-6
    )
    assert {"LwF", "grad_norm", "lr"} <= theirs[0].keys()


@pytest.mark.parametrize(
    "recipe",
    [
        "mlp",
        ["sa_proj", "mlp_gate_up"],
        ["sa_proj", {"train": "vision", "layers": -1}],
        {"train": ["llm.mlp.gate"], "layers": "12:", "lr": {"llm": 1e-5}},
        {"train": "llm.mlp.gate", "layers": [0, 3]},
    ],
)
def test_a_recipe_arrives_as_the_yaml_holds_it(
    recipe: object, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SequenceCLI, "instantiate_classes", lambda cli: None)
    path = tmp_path / "recipe.yaml"
    task = {"task": "count", "recipe": recipe, "lr": 1e-4}
    path.write_text(
        yaml.safe_dump({"model": {"path": str(tiny), "recipe": recipe}, "data": {"tasks": ["word", task]}})
    )
    config = SequenceCLI(["--config", str(path)], "lmmcl fit --config FILE").config
    assert config["model"]["recipe"] == recipe
    assert config["data"]["tasks"] == ["word", task]


def test_a_run_in_the_home_folder_is_there_also_where_the_shell_leaves_the_tilde(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    words = ["--model.path", str(tiny), "--data.tasks", "[count]", "--run=~/runs/first"]
    cli = SequenceCLI(words, "lmmcl fit --config FILE")
    there = tmp_path / "runs" / "first"
    assert cli.model.run_path == there and cli.config["run"] == cli.trainer.default_root_dir == str(there)


def test_without_a_progress_bar_plan_notices_scores_and_summary_are_printed_and_no_steps(
    tiny: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path, tiny, tmp_path / "run")
    words = [
        "--trainer.enable_progress_bar",
        "false",
        "--data.max_eval_samples",
        2,
        "--data.held_out",
        "[chart]",
    ]
    callbacks = "[{class_path: GPM, init_args: {samples: 2}}]"
    code, output, errors = command("fit", "--config", config, *words, "--trainer.callbacks", callbacks)
    assert code == 0, errors
    for said in (
        "parameters",
        "GPM: of the inputs of",
        "01-count",
        "target learning",
        f"run: {tmp_path / 'run'}",
    ):
        assert said in output, said
    assert "step 3/3" not in output and "measuring the base" not in output
