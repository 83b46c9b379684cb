"""The model card: valid for the hub, true to the run, and without a path of this machine."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from lmmcl.evaluation.matrix import Matrix
from lmmcl.export.model_card import model_card
from lmmcl.run.run_folder import RunFolder
from tests.tiny_run import TinyRun


@pytest.fixture
def card(finished: TinyRun) -> str:
    return model_card(RunFolder(finished.path), "02-word", "bfloat16: rounding took 3 % of the change.")


def table(card: str, first: str) -> list[list[str]]:
    """The rows of the table whose header begins with a word."""
    lines = card.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first} |"))
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return [rows[0], *rows[2:]]


def test_the_hub_reads_its_front_matter(card: str, finished: TinyRun) -> None:
    data: Any = ModelCard(card).data
    assert (data.library_name, data.pipeline_tag) == ("transformers", "image-text-to-text")
    assert data.base_model is None, "a local folder is no id of the hub"
    final = Matrix.load(finished.path).finals[-1]
    told = {result.dataset_name: result.metric_value for result in data.eval_results or []}
    assert told == {task: round(cell.score, 2) for task, cell in final.cells.items()}


def test_it_states_every_stage_with_its_data_and_recipe(card: str, finished: TinyRun) -> None:
    tasks = json.loads((finished.path / "config.json").read_text())["data"]["tasks"]
    count, word = (f"`{task['rows'][:12]}`" for task in tasks)
    assert table(card, "stage")[1:] == [
        ["1", "count", "the picture world of lmmcl", "12", count, "1", "0.01", "`sa_proj`"],
        ["2", "word", "the picture world of lmmcl", "6", word, "2", "0.01", "`mlp_gate_up`"],
    ]
    assert "LwF (positions answer, temperature 2.0, weight 1.0), WiSEFT (alpha 0.3, " in card


def test_the_matrix_is_a_table_with_the_change_from_the_base_model(card: str, finished: TinyRun) -> None:
    head, *rows = table(card, "task")
    assert head[3:] == ["examples", "base model", "after 01-count", "after 02-word"]
    stages = Matrix.load(finished.path).finals
    assert [row[0] for row in rows] == ["count", "word", "chart", "caption"]
    for name, *_, base, first, last in rows:
        scores = [stage.cells[name].score for stage in stages]
        assert float(base) == pytest.approx(scores[0], abs=0.05)
        for text, score in zip((first, last), scores[1:], strict=True):
            now, change = text.rstrip(")").split(" (")
            assert float(now) == pytest.approx(score, abs=0.05)
            assert float(change) == pytest.approx(score - scores[0], abs=0.05)


def test_it_tells_rounding_versions_and_the_config(card: str) -> None:
    assert "bfloat16: rounding took 3 % of the change." in card
    assert "transformers 5" in card
    shown = yaml.safe_load(card.split("```yaml\n")[1].split("```")[0])
    assert shown["model"]["path"] == "tiny"
    assert shown["data"]["tasks"][0] == {"task": "count", "max_train_samples": 12}
    assert "run" not in shown


def test_it_holds_no_path_of_this_machine(card: str, finished: TinyRun) -> None:
    config = json.loads((finished.path / "config.json").read_text())
    for folder in (str(finished.path), str(Path(config["model"]["path"]).parent)):
        assert folder not in card


def test_an_earlier_stage_tells_nothing_of_later_ones(finished: TinyRun) -> None:
    card = model_card(RunFolder(finished.path), "01-count", "float32: nothing was taken.")
    assert "02-word" not in card
    assert len(table(card, "stage")) == 2
    assert "95 % interval" not in card, "the run's numbers are those of its last stage"
    base = model_card(RunFolder(finished.path), "00-base", "float32: nothing was taken.")
    assert "this is the base model" in base
    assert "01-count" not in base
