"""The template that a company starts from runs: on files of its forms, with a tiny model in place of the large one."""

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from lmmcl.evaluation.matrix import Matrix
from tests.tiny_run import command

TEMPLATE = Path(__file__).parents[1] / "configs" / "your_data.yaml"
ROWS = 20


def write_files(folder: Path) -> None:
    """All files that the template names."""
    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    for i in range(ROWS):
        Image.new("RGB", (48, 48), (8 * i, 128, 255 - 8 * i)).save(pictures / f"{i}.png")

    def asked(i: int, question: str, answer: str, **more: object) -> dict[str, object]:
        picture = {"type": "image", "image": f"pictures/{i}.png"}
        user = {"role": "user", "content": [picture, {"type": "text", "text": question}]}
        return {
            "id": str(i),
            "messages": [user, {"role": "assistant", "content": answer}],
            **more,
        }

    def lines(name: str, rows: list[dict[str, object]]) -> None:
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    choice = [
        asked(i, "Which part is it?", "ABC"[i % 3], options=["bolt", "nut", "pin"]) for i in range(ROWS)
    ]
    lines("parts.jsonl", choice)
    lines("regression.jsonl", [{**row, "critical": True} for row in choice])
    counts = [asked(i, "How many needles are there?", str(i % 4)) for i in range(ROWS)]
    lines("gauges_train.jsonl", counts[:14])
    lines("gauges_test.jsonl", counts[14:])
    forms = [f"{i},Is it signed?,{'yes' if i % 2 else 'no'},pictures/{i}.png" for i in range(ROWS)]
    (folder / "forms.csv").write_text("\n".join(["id,question,answer,image", *forms]) + "\n")
    labels = [
        {
            "id": str(i),
            "image": f"{i}.png",
            "conversations": [
                {"from": "human", "value": "<image>\nWhat is on the label?"},
                {"from": "gpt", "value": "red" if i % 2 else "blue"},
            ],
        }
        for i in range(ROWS)
    ]
    (folder / "labels.json").write_text(json.dumps(labels))
    scan = io.BytesIO()
    Image.new("RGB", (48, 48), "gray").save(scan, "PNG")
    table = {
        "number": [str(i) for i in range(ROWS)],
        "prompt": ["What does the scan show?"] * ROWS,
        "report": ["a circle" if i % 2 else "a square" for i in range(ROWS)],
        "scan": [{"bytes": scan.getvalue(), "path": None}] * ROWS,
    }
    pq.write_table(pa.table(table), folder / "reports.parquet")


@pytest.mark.slow
def test_the_template_runs_with_a_tiny_model_on_one_process(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(tmp_path / "data")
    (tmp_path / "mine.yaml").write_text(TEMPLATE.read_text())
    monkeypatch.chdir(tmp_path)
    here = ["--trainer.strategy", "auto", "--trainer.devices", "1", "--trainer.accelerator", "cpu"]
    small = ["--data.num_workers", "0", "--data.max_eval_samples", "2"]
    code, _, errors = command("fit", "--config", "mine.yaml", "--model.path", tiny, *here, *small)
    assert code == 0, errors
    matrix = Matrix.load(tmp_path / "runs" / "your_data")
    assert matrix.targets == ["parts", "gauges", "labels", "reports", "forms"]
    assert matrix.held_out == ["regression"]
    assert len(matrix.finals) == 6
    assert all(len(stage.cells) == 6 for stage in matrix.finals)


def test_every_key_of_the_template_is_explained_where_it_stands_first() -> None:
    explained: set[str] = set()
    for line in TEMPLATE.read_text().splitlines():
        key, colon, value = line.split("#")[0].strip().removeprefix("- ").partition(":")
        if colon and value.strip():
            assert "#" in line or key in explained, line
            explained.add(key)


def test_the_template_shows_how_an_editor_checks_it() -> None:
    text = TEMPLATE.read_text()
    assert "# yaml-language-server: $schema=lmmcl.schema.json" in text
    assert "lmmcl schema > lmmcl.schema.json" in text
    assert set(yaml.safe_load(text)) == {"model", "data", "trainer", "run"}
