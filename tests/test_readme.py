"""What README shows is run: its snippets, its YAML, its commands and its links."""

import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import LightningModule, Trainer
from safetensors.torch import load_file
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from lmmcl import ContinualLMM, Mitigation
from lmmcl.cli import main
from lmmcl.cli.entry import COMMANDS
from tests.toy import toy_data, toy_module, toy_trainer

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)


def snippet(first_line: str) -> str:
    return next(block for block in blocks("python") if block.startswith(first_line))


@pytest.fixture
def l2sp() -> type[Mitigation]:
    """The class of the walk-through, as its reader would import it."""
    module = types.ModuleType("mine")
    exec(snippet("# mine.py"), module.__dict__)
    found: type[Mitigation] = module.__dict__["L2SP"]
    assert issubclass(found, Mitigation)
    return found


def test_a_mitigation_takes_less_than_thirty_lines() -> None:
    assert len(snippet("# mine.py").splitlines()) < 30


def test_the_mitigation_of_the_walk_through_does_what_its_paper_says(
    l2sp: type[Mitigation], tiny: Path, tmp_path: Path
) -> None:
    logged: list[tuple[float, float]] = []

    class Reference(Mitigation):
        """(α/2)‖θ − θ₀‖² by hand, θ₀ from the checkpoint itself."""

        @override
        def on_before_optimizer_step(
            self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
        ) -> None:
            assert isinstance(pl_module, ContinualLMM)
            base = type(pl_module.model).from_pretrained(tiny).state_dict()  # type: ignore[attr-defined]  # transformers
            self.expected = sum(
                float((p.detach() - base[n]).double().square().sum())
                for n, p in pl_module.trained_parameters().items()
            )

        @override
        def on_train_batch_end(
            self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            logged.append((float(trainer.callback_metrics["L2SP"]), 0.3 / 2 * self.expected))

    run = tmp_path / "run"
    toy_trainer(callbacks=[l2sp(alpha=0.3), Reference()]).fit(toy_module(tiny, run), toy_data())  # type: ignore[call-arg]  # made by exec
    assert len(logged) == 6
    assert logged[0] == (0.0, 0.0)
    assert logged[3] == (0.0, 0.0), "the second task trains other tensors, which have not moved yet"
    for found, expected in logged:
        assert found == pytest.approx(expected, rel=1e-4)


def test_its_strength_zero_is_plain_fine_tuning_bit_for_bit(
    l2sp: type[Mitigation], tiny: Path, tmp_path: Path
) -> None:
    def fit(name: str, callbacks: list[Mitigation]) -> dict[str, Tensor]:
        toy_trainer(callbacks=callbacks).fit(toy_module(tiny, tmp_path / name), toy_data())
        return load_file(tmp_path / name / "stages" / "02-second" / "weights.safetensors")

    plain, off = fit("plain", []), fit("off", [l2sp(alpha=0.0)])  # type: ignore[call-arg]  # made by exec
    assert all(torch.equal(plain[name], off[name]) for name in plain)


def test_the_mitigation_runs_from_yaml_out_of_the_readers_own_folder(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(snippet("# mine.py"))
    callbacks = next(block for block in blocks("yaml") if "mine.L2SP" in block)
    config = {
        **yaml.safe_load(callbacks),
        "model": {"path": str(tiny), "lr": 1e-3},
        "data": {
            "tasks": [{"task": "count", "max_train_samples": 16}],
            "held_out": ["chart"],
            "max_eval_samples": 4,
        },
        "run": "run",
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    # A process of its own, which finds the file by the folder it runs in.
    command = [sys.executable, "-m", "lmmcl", "fit", "--config", "mine.yaml"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=120)
    assert "L2SP" in (tmp_path / "run" / "logs" / "metrics.csv").read_text().splitlines()[0]


def test_the_yaml_of_the_first_screen_has_the_keys_that_exist(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything but the 7-billion-parameter model and the user's files is real."""
    config = yaml.safe_load(next(block for block in blocks("yaml") if block.startswith("# lmmcl fit")))
    config["model"]["path"] = str(tiny)
    config["trainer"] |= {"strategy": "auto", "devices": 1, "accelerator": "cpu"}
    config["data"] |= {
        "tasks": [{"task": "count", "max_train_samples": 8}],
        "held_out": ["chart"],
        "max_eval_samples": 4,
    }
    (tmp_path / "seq.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "--config", "seq.yaml"]) == 0
    assert (tmp_path / "runs" / "first" / "summary.json").exists()


def test_the_ten_lines_of_python_run(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = snippet("from lightning.pytorch import Trainer")
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    code = code.replace('"mini"', repr(str(tiny)))
    code = code.replace('tasks=["count", "clock"]', 'tasks=[{"task": "count", "max_train_samples": 8}]')
    code = code.replace("max_eval_samples=50", "max_eval_samples=4").replace(
        "Trainer(", "Trainer(enable_progress_bar=False, enable_model_summary=False, "
    )
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert (tmp_path / "runs" / "python" / "matrix.json").exists()


def test_every_file_it_links_to_exists() -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)]+)\)", TEXT):
        assert (ROOT / target).exists(), target


def test_every_command_it_names_exists(capsys: pytest.CaptureFixture[str]) -> None:
    commands = set(re.findall(r"(?:^|`)lmmcl ([a-z]+)", TEXT, flags=re.MULTILINE))
    assert commands == set(COMMANDS)
    for command in commands:
        with pytest.raises(SystemExit) as done:
            main([command, "--help"])
        assert done.value.code == 0
        assert command in capsys.readouterr().out
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"\bmake ([a-z]+)", TEXT)):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
