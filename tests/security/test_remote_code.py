"""Code that a checkpoint, a chat template or a YAML brings runs only where somebody asked for it."""

import inspect
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from jinja2.exceptions import SecurityError

from lmmcl.data.questions import read_questions
from lmmcl.errors import UserError
from lmmcl.export.stage import export
from lmmcl.loading import Checkpoint
from lmmcl.model import ContinualLMM
from lmmcl.structure.recipe_table import print_recipes
from tests.tiny_run import command

CODE = """
from pathlib import Path
from transformers import PretrainedConfig, ProcessorMixin

Path({sprung!r}).touch()

class Strange(PretrainedConfig):
    model_type = "strange"
"""


def _with_code(tiny: Path, folder: Path, sprung: Path, known: bool) -> Path:
    """A checkpoint that brings a class of its own, of a model type that transformers knows or does not."""
    shutil.copytree(tiny, folder)
    (folder / "strange.py").write_text(CODE.format(sprung=str(sprung)))
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "strange.Strange", "AutoModelForImageTextToText": "strange.Strange"}
    if not known:
        config["model_type"] = "strange"
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json"):
        if (folder / name).exists():
            held = json.loads((folder / name).read_text())
            both = {"AutoProcessor": "strange.Strange", "AutoTokenizer": [None, "strange.Strange"]}
            (folder / name).write_text(json.dumps({**held, "auto_map": both}))
    return folder


def test_a_model_type_that_only_its_own_code_knows_is_refused(tiny: Path, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    folder = _with_code(tiny, tmp_path / "model", sprung, known=False)
    checkpoint = Checkpoint(str(folder))
    for load in (checkpoint.config, checkpoint.processor, lambda: checkpoint.model(False, 0)):
        with pytest.raises(UserError, match=r"model\.path: could not load"):
            load()
    code, _, errors = command("recipes", "--model", folder)
    assert code == 2, errors
    assert not sprung.exists()


def test_the_code_of_a_known_model_type_is_passed_over(tiny: Path, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    checkpoint = Checkpoint(str(_with_code(tiny, tmp_path / "model", sprung, known=True)))
    assert checkpoint.config().model_type != "strange"
    assert checkpoint.processor() is not None and checkpoint.model(False, 0) is not None
    assert not sprung.exists()


def test_it_runs_where_it_is_asked_for(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    sprung = tmp_path / "sprung"
    folder = _with_code(tiny, tmp_path / "model", sprung, known=False)
    assert Checkpoint(str(folder), trust_remote_code=True).config().model_type == "strange"
    assert sprung.exists()


@pytest.mark.parametrize("function", [ContinualLMM, Checkpoint, print_recipes])
def test_nobody_asks_for_it_by_default(function: Any) -> None:
    assert inspect.signature(function).parameters["trust_remote_code"].default is False


@pytest.mark.parametrize("command_name", ["recipes", "audit", "export"])
def test_a_command_has_to_be_told(command_name: str) -> None:
    assert command(command_name, "--help")[1].count("--trust_remote_code") >= 1


def test_a_run_does_not_ask_for_it_on_behalf_of_whoever_exports_it(tiny: Path, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    folder = _with_code(tiny, tmp_path / "model", sprung, known=False)
    settings = {"path": str(folder), "revision": None, "trust_remote_code": True, "from_scratch": False}
    (tmp_path / "config.json").write_text(json.dumps({"model": settings}))
    with pytest.raises(UserError, match="add --trust_remote_code"):
        export(tmp_path, None, tmp_path / "out")
    assert not sprung.exists()


def test_a_chat_template_reaches_nothing_of_python(tiny: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny, tmp_path / "model")
    for old in folder.glob("chat_template*"):
        old.unlink()
    (folder / "chat_template.jinja").write_text("{{ messages.__class__.__mro__[1].__subclasses__() }}")
    processor = Checkpoint(str(folder)).processor()
    with pytest.raises(SecurityError):
        processor.apply_chat_template([{"role": "user", "content": "hello"}], tokenize=False)


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:pathlib.Path.touch", "!!python/object/new:pathlib.Path"]
)
def test_a_yaml_builds_no_objects(tmp_path: Path, tag: str) -> None:
    sprung = tmp_path / "sprung"
    text = f"held_out: [{tag} [{sprung}]]\n"
    (tmp_path / "questions.yaml").write_text(text)
    with pytest.raises(UserError, match="no valid YAML"):
        read_questions(tmp_path / "questions.yaml")
    (tmp_path / "fit.yaml").write_text(f"data: {{tasks: [{tag} [{sprung}]]}}\n")
    code, _, errors = command("fit", "--config", tmp_path / "fit.yaml")
    assert code == 2, errors
    assert not sprung.exists()
