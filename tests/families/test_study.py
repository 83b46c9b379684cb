"""The study's sequence on its three families, from the YAML of a 7B run, on small copies of its data.

Only model.path, data.root and data.max_eval_samples differ.
"""

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from tests.families.conftest import Kit
from tests.tasks.fixtures import write_fixtures
from tests.tiny_run import command

CONFIGS = Path(__file__).parents[2] / "configs" / "study"
MODELS = {
    "llava-onevision": "llava-onevision-qwen2-7b",
    "llava-next": "llava-next-llama3-8b",
    "qwen2.5-vl": "qwen2.5-vl-7b",
}
RECIPES = {"llava-onevision": "sa_proj", "llava-next": "mlp_gate_up", "qwen2.5-vl": "sa_proj"}
"""Each is tried on one family at least; test_training.py has both on all of them."""
WITH_WORKERS = "qwen2.5-vl"
"""The family whose batches come from worker processes, as the YAML says: they are forked some hundred times."""
TARGETS = ["cub200", "pixmo_count", "path_vqa", "text_vqa", "time_clock"]
HELD_OUT = ["ai2d", "chartqa", "docvqa", "infovqa", "realworldqa", "scienceqa", "mmstar", "seedbench"]
CLOCKS = 48


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copies of the hub's data sets under ``hub``, and the rows of one's own that the orders name."""
    folder = tmp_path_factory.mktemp("study")
    write_fixtures(folder / "hub", rows=10, learned=48)
    (folder / "data").mkdir()
    rows = []
    for number in range(CLOCKS):
        picture = f"{number}.png"
        Image.new("RGB", (30, 20), (number * 7, 90, 200)).save(folder / "data" / picture)
        answer = f"{1 + number % 12:02d}:{number:02d}"
        asked = "What time does the clock show in this image?"
        rows.append({"id": number, "image": picture, "question": asked, "answer": answer})
    (folder / "data" / "time_clock.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")  # as the YAML says
def test_the_studys_sequence_runs_from_its_yaml(
    kit: Kit, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kit.family.name not in MODELS:
        pytest.skip("not a family of the study")
    recipe = RECIPES[kit.family.name]
    monkeypatch.chdir(data)
    layers = [
        f"{MODELS[kit.family.name]}.yaml",
        "orders/default.yaml",
        f"recipes/{recipe}.yaml",
        "baselines/lwf.yaml",
        "baselines/wise_ft.yaml",
    ]
    configs = [word for layer in layers for word in ("--config", CONFIGS / layer)]
    own = ["--model.path", kit.path, "--data.root", data / "hub", "--run", tmp_path / "run"]
    own += ["--data.max_eval_samples", "4"]
    if kit.family.name != WITH_WORKERS:
        own += ["--data.num_workers", "0"]
    code, _, errors = command("fit", *configs, *own)
    assert code == 0, errors
    with open(tmp_path / "run" / "matrix.csv", newline="") as file:
        cells = {(row["stage"], row["variant"], row["task"]) for row in csv.DictReader(file)}
    stages = ["00-base", *(f"{number:02d}-{task}" for number, task in enumerate(TARGETS, start=1))]
    assert {(stage, "", task) for stage in stages for task in TARGETS + HELD_OUT} <= cells
    assert {(stage, "before WiSEFT", task) for stage in stages[1:] for task in TARGETS + HELD_OUT} <= cells
    logged = (tmp_path / "run" / "logs" / "metrics.csv").read_text().splitlines()
    assert "LwF" in logged[0]
    assert len(logged) == 1 + len(TARGETS)
