"""How models are spoken to: each in its own way, told where that differs, the base's where a folder brings none."""

import json
import shutil
from pathlib import Path

from lmmcl.audit.two_models import load_two
from lmmcl.loading import Checkpoint
from tests.audit.broken import Broken, auditor


def test_a_folder_without_a_processor_takes_that_of_the_base(broken: Broken, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "generation_config.json", "model.safetensors"):
        shutil.copy(broken.tuned / name, bare / name)
    two = load_two(Checkpoint(str(broken.base)), Checkpoint(str(bare)))
    assert two.voices["base"].key == two.voices["tuned"].key
    assert two.notes == []


def test_another_chat_template_is_told_and_each_model_is_asked_in_its_own(
    broken: Broken, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(broken.base, other)
    template = other / "chat_template.jinja"
    template.write_text("{{ 'zebra ' }}" + template.read_text())
    found = auditor(broken.base, other, broken.data, tmp_path / "run").run(0.0)
    assert any(note.startswith("chat templates of the two differ") for note in found.notes)
    assert not [change for change in found.groups if change.changed]
    assert found.verdict.held_out.value < 0  # no tensor moved: the template alone changed the answers
    held = [
        json.loads(line)["prediction"]
        for line in (tmp_path / "run/predictions/test/base/held.jsonl").read_text().splitlines()
    ]
    golds = [flip.before for flip in found.verdict.lost if flip.task == "held"]
    assert golds and set(golds) <= set(held)


def test_other_end_tokens_are_told(broken: Broken, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(broken.base, other)
    path = other / "generation_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "eos_token_id": [config["eos_token_id"], 7]}))
    two = load_two(Checkpoint(str(broken.base)), Checkpoint(str(other)))
    assert two.voices["base"].differs_from(two.voices["tuned"]) == ["end tokens"]
