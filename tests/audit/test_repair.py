"""A repair writes the very weights that were measured, and nothing where only the base is within the budget."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from lmmcl.audit.candidate import mixed
from lmmcl.audit.repair import check_target, write_repaired
from lmmcl.errors import UserError
from tests.audit.broken import Broken, auditor, moved_copy, write_data


def test_an_infinite_budget_writes_the_tuned_model(broken: Broken, tmp_path: Path) -> None:
    half = tmp_path / "half"
    shutil.copytree(broken.tuned, half)
    AutoModelForImageTextToText.from_pretrained(half, dtype=torch.bfloat16).save_pretrained(half)
    made = auditor(broken.base, half, broken.data, tmp_path / "run")
    verdict = write_repaired(made, made.run(float("inf")), tmp_path / "repaired")
    assert verdict.candidate.kind == "tuned"
    before, after = (load_file(path / "model.safetensors") for path in (half, tmp_path / "repaired"))
    assert before.keys() == after.keys()
    assert all(
        torch.equal(after[name], value) and after[name].dtype == value.dtype for name, value in before.items()
    )
    for name in ("config.json", "generation_config.json", "chat_template.jinja", "processor_config.json"):
        assert json_or_text(tmp_path / "repaired" / name) == json_or_text(half / name)


def json_or_text(path: Path) -> object:
    return json.loads(path.read_text()) if path.suffix == ".json" else path.read_text()


def test_a_small_budget_writes_a_mixture_that_lost_little_on_the_rows_that_chose(
    broken: Broken, tmp_path: Path
) -> None:
    made = auditor(broken.base, broken.tuned, broken.data, tmp_path / "run")
    found = made.run(25.0)
    verdict = write_repaired(made, found, tmp_path / "repaired")
    assert found.choice is not None and found.choice.best is not None
    assert -found.choice.best.held_out.low <= 25 and -found.choice.best.held_out.value < 10
    assert verdict.held_out.low <= 0 <= verdict.held_out.high
    # The written folder, audited as any other, is what was measured.
    again = auditor(broken.base, tmp_path / "repaired", broken.data, tmp_path / "again").run(
        0.0, search=False
    )
    assert again.verdict.held_out == verdict.held_out
    assert again.verdict.learning == verdict.learning
    alphas = verdict.candidate.by_group()
    models = [
        dict(AutoModelForImageTextToText.from_pretrained(path).named_parameters())
        for path in (broken.base, broken.tuned, tmp_path / "repaired")
    ]
    for name, value in made.two.group_of.items():
        start, end, written = (model[name].detach() for model in models)
        assert torch.equal(written, mixed(start, end, alphas.get(value, 0.0)))
    AutoProcessor.from_pretrained(tmp_path / "repaired")
    card = (tmp_path / "repaired" / "README.md").read_text()
    assert str(tmp_path) not in card and "held-out change" in card
    assert json.loads((tmp_path / "repaired" / "lmmcl.json").read_text())["put_back"] == alphas


def test_nothing_is_written_where_only_the_base_is_within_the_budget(broken: Broken, tmp_path: Path) -> None:
    tuned = moved_copy(broken.base, tmp_path / "tuned", {"llm.attn.v": 40.0, "llm.attn.o": 40.0})
    data = write_data(tmp_path / "data", {"held": broken.base})
    made = auditor(broken.base, tuned, data, tmp_path / "run")
    found = made.run(0.0)
    assert found.choice is not None and found.choice.best is None and found.best is None
    with pytest.raises(UserError, match=r"only BASE itself does\. Raise --budget"):
        write_repaired(made, found, tmp_path / "repaired")
    assert not (tmp_path / "repaired").exists()


def test_a_model_that_did_not_move_has_nothing_to_repair(broken: Broken, tmp_path: Path) -> None:
    made = auditor(broken.base, broken.base, broken.data, tmp_path / "run")
    with pytest.raises(UserError, match="nothing to repair"):
        write_repaired(made, made.run(2.0), tmp_path / "repaired")


def test_a_folder_that_holds_something_or_is_read_is_refused_first(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be a new or an empty folder; choose another one"):
        check_target(Path(__file__), [str(tiny)])
    for to in (tiny, tiny / "inside", tiny.parent):
        with pytest.raises(UserError, match="which is read, hold one another"):
            check_target(to, ["mini", str(tiny)])
    check_target(tmp_path / "new", [str(tiny)])
