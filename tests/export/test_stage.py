"""An exported stage is a Hugging Face model that answers as the stage did, and the rounding is told."""

import json
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from lmmcl import TaskSequenceDataModule
from lmmcl.errors import UserError
from lmmcl.evaluation.generate import generate
from lmmcl.export.stage import export
from lmmcl.world.mini import write_skeleton
from tests.tiny_run import TinyRun, command, write_config


def answers(folder: Path, task: str, limit: int) -> list[str]:
    """What a plain transformers model says to a task's test rows."""
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    processor = AutoProcessor.from_pretrained(folder)
    data = TaskSequenceDataModule([task])
    data.attach(processor, None)
    rows = data.eval_rows(data.tasks[0], limit=limit)
    with torch.no_grad():
        return generate(model, processor, data.collator.prompts(rows), data.tasks[0].max_new_tokens)


@pytest.mark.parametrize(("stage", "name"), [(0, "00-base"), (1, "01-count"), (None, "02-word")])
def test_an_exported_stage_answers_as_the_stage_did(
    finished: TinyRun, tmp_path: Path, stage: int | None, name: str
) -> None:
    export(finished.path, stage, tmp_path / "model")
    kept = (finished.path / "predictions" / name / "count.jsonl").read_text().splitlines()
    assert answers(tmp_path / "model", "count", 5) == [json.loads(line)["prediction"] for line in kept]


def test_float32_keeps_every_value_and_says_so(finished: TinyRun, tmp_path: Path) -> None:
    rounding = export(finished.path, None, tmp_path / "model", "float32")
    held = load_file(finished.path / "stages/02-word/weights.safetensors")
    written = load_file(tmp_path / "model" / "model.safetensors")
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "model", dtype=torch.float32)
    parameters = dict(model.named_parameters())
    assert all(torch.equal(parameters[name], value) for name, value in held.items())
    assert {value.dtype for value in written.values()} == {torch.float32}
    assert (rounding.lost, rounding.undone) == (0.0, 0)
    assert rounding.changed > 0


def test_bfloat16_tells_how_much_of_the_change_it_took(finished: TinyRun, tiny: Path, tmp_path: Path) -> None:
    rounding = export(finished.path, 1, tmp_path / "model", "bfloat16")
    held = load_file(finished.path / "stages/01-count/weights.safetensors")
    model = AutoModelForImageTextToText.from_pretrained(tiny, dtype=torch.float32).requires_grad_(False)
    base = dict(model.named_parameters())
    change = torch.cat([(value - base[name]).flatten() for name, value in held.items()])
    rest = torch.cat([(value.bfloat16().float() - value).flatten() for value in held.values()])
    same = [(v.bfloat16() == base[n].bfloat16()) & (v != base[n]) for n, v in held.items()]
    assert rounding.changed == int((change != 0).sum())
    assert rounding.undone == sum(int(mask.sum()) for mask in same)
    assert rounding.lost == pytest.approx(float(rest.norm() / change.norm()), rel=1e-4)
    assert "--dtype float32 keeps all of it" in str(rounding)
    written = load_file(tmp_path / "model" / "model.safetensors")
    assert {value.dtype for value in written.values()} == {torch.bfloat16}


def test_shards_answer_as_the_stage_did_and_a_tied_head_is_written_once(
    finished: TinyRun, tmp_path: Path
) -> None:
    export(finished.path, None, tmp_path / "model", max_shard_size="50KB")
    index = json.loads((tmp_path / "model" / "model.safetensors.index.json").read_text())["weight_map"]
    assert len(set(index.values())) > 2
    assert not [name for name in index if "lm_head" in name]
    kept = (finished.path / "predictions/02-word/count.jsonl").read_text().splitlines()
    assert answers(tmp_path / "model", "count", 5) == [json.loads(line)["prediction"] for line in kept]


@pytest.mark.parametrize("tied", [True, False])
def test_embeddings_and_head_that_trained_are_exported_whether_tied_or_not(
    tiny: Path, tmp_path: Path, tied: bool
) -> None:
    checkpoint = Path(shutil.copytree(tiny, tmp_path / "checkpoint"))
    shape = AutoConfig.from_pretrained(tiny)
    shape.tie_word_embeddings = shape.text_config.tie_word_embeddings = tied
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForImageTextToText.from_config(shape).save_pretrained(checkpoint)
    config = write_config(tmp_path, checkpoint, tmp_path / "run")
    words = ["--model.recipe", "llm", "--data.tasks", "[{task: count, max_train_samples: 8}]"]
    code, _, errors = command("fit", "--config", config, *words, "--trainer.callbacks", "[]")
    assert code == 0, errors
    export(tmp_path / "run", None, tmp_path / "model", max_shard_size="50KB")
    index = json.loads((tmp_path / "model" / "model.safetensors.index.json").read_text())["weight_map"]
    assert bool([name for name in index if "lm_head" in name]) != tied
    kept = (tmp_path / "run/predictions/01-count/count.jsonl").read_text().splitlines()
    assert answers(tmp_path / "model", "count", 5) == [json.loads(line)["prediction"] for line in kept]


def test_new_shards_are_not_hidden_by_the_one_file_of_an_older_export(
    finished: TinyRun, tmp_path: Path
) -> None:
    export(finished.path, 0, tmp_path / "model")
    export(finished.path, 2, tmp_path / "model", "float32", overwrite=True, max_shard_size="50KB")
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "model", dtype=torch.float32)
    held = load_file(finished.path / "stages/02-word/weights.safetensors")
    assert all(torch.equal(dict(model.named_parameters())[name], value) for name, value in held.items())


def test_a_generation_config_is_kept_whole_even_where_its_settings_contradict_each_other(
    finished: TinyRun, tmp_path: Path
) -> None:
    base = Path(json.loads(finished.path.joinpath("config.json").read_text())["model"]["path"])
    asked = {
        "do_sample": False,
        "temperature": 0.2,
        "max_new_tokens": 32,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }
    before = (base / "generation_config.json").read_text()
    try:
        (base / "generation_config.json").write_text(json.dumps(asked))
        export(finished.path, 1, tmp_path / "model")
    finally:
        (base / "generation_config.json").write_text(before)
    written = json.loads((tmp_path / "model" / "generation_config.json").read_text())
    assert asked.items() <= written.items()


def test_nothing_that_is_written_holds_a_path_of_this_machine(finished: TinyRun, tmp_path: Path) -> None:
    export(finished.path, None, tmp_path / "model")
    folders = {str(finished.path), str(tmp_path), str(Path.home()), str(Path.cwd()), tempfile.gettempdir()}
    for file in (tmp_path / "model").iterdir():
        assert not [folder for folder in folders if folder.encode() + b"/" in file.read_bytes()], file.name


def test_the_folder_says_where_it_comes_from(finished: TinyRun, tmp_path: Path) -> None:
    export(finished.path, 1, tmp_path / "model")
    held = json.loads((tmp_path / "model" / "lmmcl.json").read_text())
    assert (held["stage"], held["tasks"], held["recipe"]) == ("01-count", ["count"], "sa_proj")
    assert held["base"] == "tiny"
    assert held["rows"] == 12
    assert len({path.stat().st_mode for path in (tmp_path / "model").iterdir()}) == 1


def test_an_export_never_writes_over_anything(finished: TinyRun, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(UserError, match=r"--to: .* must be a new or an empty folder"):
        export(finished.path, None, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def run_on(checkpoint: Path, finished: TinyRun, folder: Path, **settings: object) -> Path:
    """A copy of a finished run that says another base model."""
    run = Path(shutil.copytree(finished.path, folder / "run"))
    held = json.loads((run / "config.json").read_text())
    held["model"] |= {"path": str(checkpoint), **settings}
    (run / "config.json").write_text(json.dumps(held))
    return run


@pytest.mark.parametrize("stage", [0, 2])
def test_a_base_model_that_was_replaced_is_refused(
    finished: TinyRun, tiny: Path, tmp_path: Path, stage: int
) -> None:
    checkpoint = Path(shutil.copytree(tiny, tmp_path / "checkpoint"))
    run = run_on(checkpoint, finished, tmp_path)
    export(run, stage, tmp_path / "model")
    model = AutoModelForImageTextToText.from_pretrained(tiny)
    name = "model.multi_modal_projector.linear_1.weight"
    with torch.no_grad():
        dict(model.named_parameters())[name].add_(1)
    model.save_pretrained(checkpoint)
    with pytest.raises(UserError, match=rf"is not the model that .* 1 tensors differ, for example {name}"):
        export(run, stage, tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_the_base_of_a_run_on_a_bf16_checkpoint_is_known_again(
    tiny: Path, tmp_path: Path, precision: str
) -> None:
    checkpoint = Path(shutil.copytree(tiny, tmp_path / "checkpoint"))
    AutoModelForImageTextToText.from_pretrained(tiny, dtype=torch.bfloat16).save_pretrained(checkpoint)
    config = write_config(tmp_path, checkpoint, tmp_path / "run")
    words = ["--trainer.callbacks", "[]", "--trainer.precision", precision]
    code, _, errors = command("fit", "--config", config, *words)
    assert code == 0, errors
    for stage in (0, 1, 2):
        assert export(tmp_path / "run", stage, tmp_path / f"model{stage}").dtype == "bfloat16"


def test_values_that_the_checkpoints_dtype_rounds_are_known_again(
    finished: TinyRun, tiny: Path, tmp_path: Path
) -> None:
    checkpoint = Path(shutil.copytree(tiny, tmp_path / "checkpoint"))
    written = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**written, "dtype": "bfloat16"}))
    run = run_on(checkpoint, finished, tmp_path)
    assert export(run, 1, tmp_path / "model").dtype == "bfloat16"


def test_an_export_never_destroys_a_run_or_its_base_model(
    finished: TinyRun, tiny: Path, tmp_path: Path
) -> None:
    checkpoint = Path(shutil.copytree(tiny, tmp_path / "checkpoint"))
    run = run_on(checkpoint, finished, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for to in (run, run / "stages/02-word", run / "last", finished.path):
        with pytest.raises(UserError, match="holds a run, which would be destroyed"):
            export(run, None, to, overwrite=True)
    for to in (checkpoint, checkpoint / "inside"):
        with pytest.raises(UserError, match=r"and model\.path .*, which is read, hold one another"):
            export(run, None, to, overwrite=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_new_weights_may_take_the_place_of_those_whose_shape_they_have(tmp_path: Path) -> None:
    checkpoint = write_skeleton(tmp_path / "checkpoint")
    config = write_config(tmp_path, checkpoint, tmp_path / "run")
    words = ["--model.from_scratch", "true", "--model.recipe", "full", "--trainer.callbacks", "[]"]
    code, _, errors = command(
        "fit", "--config", config, *words, "--data.tasks", "[{task: count, max_train_samples: 4}]"
    )
    assert code == 0, errors
    export(tmp_path / "run", None, checkpoint, "bfloat16", overwrite=True)
    assert (checkpoint / "model.safetensors").exists()


def test_with_overwrite_files_of_the_same_names_are_replaced_and_others_stay(
    finished: TinyRun, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("old")
    (tmp_path / "model" / "mine").write_text("mine")
    export(finished.path, None, tmp_path / "model", overwrite=True)
    assert json.loads((tmp_path / "model" / "config.json").read_text())["model_type"] == "llava"
    assert (tmp_path / "model" / "mine").read_text() == "mine"
    assert not list((tmp_path / "model").glob(".*"))


def test_a_folder_beside_it_stays_and_the_present_folder_can_be_filled(
    finished: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("to", "to.part"):
        (tmp_path / name).mkdir()
    (tmp_path / "to.part" / "mine").write_text("mine")
    monkeypatch.chdir(tmp_path / "to")
    export(finished.path, None, Path("."))
    assert (tmp_path / "to" / "model.safetensors").exists()
    assert (tmp_path / "to.part" / "mine").read_text() == "mine"


def test_mistakes_are_named(finished: TinyRun, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run"):
        export(tmp_path, None, tmp_path / "model")
    with pytest.raises(
        UserError, match=r"--stage: .* must hold stage 7, it holds 00-base, 01-count, 02-word"
    ):
        export(finished.path, 7, tmp_path / "model")
    with pytest.raises(UserError, match="--max_shard_size must be a size such as 5GB or 500MB, got '5'"):
        export(finished.path, None, tmp_path / "model", max_shard_size="5")
    with pytest.raises(UserError, match="--dtype must be one of"):
        export(finished.path, None, tmp_path / "model", "int8")


def test_the_command_prints_folder_and_rounding(finished: TinyRun, tmp_path: Path) -> None:
    code, output, errors = command(
        "export", finished.path, "--stage", 1, "--to", tmp_path / "model", "--dtype", "bfloat16"
    )
    assert (code, errors) == (0, "")
    assert output.startswith(f"{tmp_path / 'model'} (bfloat16: rounding took ")
    code, _, errors = command("export", finished.path)
    assert code == 2
    assert "--to" in errors
