"""Every mistake of a user is one line: the key, the value, the way out; exit code 2 and no traceback."""

import json
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

import lmmcl.callbacks
from tests.tiny_run import TinyRun, command, contents, write_config


def error(*words: object) -> str:
    """The one line that a command ends with."""
    code, _, errors = command(*words)
    lines = [line for line in errors.splitlines() if not line.startswith("lmmcl: warning")]
    assert code == 2, errors
    assert len(lines) == 1, errors
    assert lines[0].startswith("lmmcl: error: ")
    return lines[0].removeprefix("lmmcl: error: ")


@pytest.fixture
def config(tiny: Path, tmp_path: Path) -> Path:
    return write_config(tmp_path, tiny, tmp_path / "run")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--model.lrr", "3"], "model has no key 'lrr'; did you mean lr?"),
        (["--trainer.max_epoch", "3"], "trainer has no key 'max_epoch'; did you mean max_epochs?"),
        (["--modle.path", "3"], "there is no key 'modle'; did you mean model?"),
        (["--model.lr", "fast"], "model.lr must be a number, got 'fast'."),
        (["--model.lr", "-1"], "model.lr must be above 0, got -1.0."),
        (
            ["--data.root", "[redacted]/x"],
            "data.root holds [redacted], as the YAML in a run's folder tells no secret: give the value again, in a "
            "YAML of your own or as an option behind it, or leave it to the environment.",
        ),
        (
            ["--data.max_eval_samples", "many"],
            "data.max_eval_samples must be a whole number or null, got 'many'.",
        ),
        (["--model.schedule", "linear"], "model.schedule must be one of cosine, constant, got 'linear'."),
        (["--data.tasks", "count"], "data.tasks must be a list, got 'count'; write [count]."),
        (["--model.betas", "[0.9]"], "model.betas must be a list of 2, got '[0.9]'."),
        (
            ["--ckpt_path", "x.ckpt"],
            "ckpt_path must be last, which goes on with the run in its folder (the key run, or --run DIR), or null, "
            "got 'x.ckpt'.",
        ),
        (["--data.lr", "3"], "data has no key 'lr'; did you mean model.lr?"),
        (["--lr", "3"], "there is no key 'lr'; did you mean model.lr?"),
        (["--learning_rate", "3"], "there is no key 'learning_rate'; did you mean model.lr?"),
        (
            ["--trainer.num_train_epochs", "3"],
            "trainer has no key 'num_train_epochs'; did you mean data.tasks: [{task: ..., epochs: N}]?",
        ),
        (
            ["--trainer.precision", "16-mixed"],
            "trainer.precision: 16-mixed is refused: fp16 needs a loss scale, whose skipped steps a sequence cannot "
            "repeat exactly. Use bf16-mixed or 32-true.",
        ),
        (["-c"], "--config needs a value behind it."),
        (["seq.yaml"], "seq.yaml is no option; a YAML is given by --config seq.yaml."),
        (["--run"], "--run needs a value behind it."),
        (["--model.run", "x"], "model.run must be given at the top of the YAML, as the key run."),
        (["--trainer.precision", "bf17"], "trainer.precision must be bf16-mixed or 32-true, got 'bf17'."),
        (["--trainer.strategy", "foo"], "trainer.strategy must be auto, ddp or fsdp2, got 'foo'."),
        (
            ["--trainer.devices", "many"],
            "trainer.devices must be a number of processes from 1, a list of devices, or auto for all of this "
            "machine, got 'many'.",
        ),
        (["--trainer.callbacks", "LwF"], "trainer.callbacks must be a list, got 'LwF'; write [LwF]."),
        (
            ["--trainer.callbacks", "[wiseft]"],
            "trainer.callbacks: there is no 'wiseft'; did you mean WiSEFT? Known are "
            f"{', '.join(lmmcl.callbacks.__all__)}; your own is named module.Class.",
        ),
        (
            ["--trainer.callbacks", "[{class_path: LwF, weight: 2}]"],
            "trainer.callbacks: LwF has 'weight' beside class_path; its arguments stand under init_args: "
            "{class_path: LwF, init_args: {weight: ...}}.",
        ),
        (
            ["--trainer.callbacks", "[{LwF: {weight: 2}}]"],
            "trainer.callbacks: LwF stands as a key; write {class_path: LwF, init_args: {...}}.",
        ),
        (
            ["--trainer.callbacks", "[LwFF]"],
            "trainer.callbacks: there is no 'LwFF'; did you mean LwF? Known are "
            f"{', '.join(lmmcl.callbacks.__all__)}; your own is named module.Class.",
        ),
        (
            ["--trainer.callbacks", "[{class_path: LwF, init_args: {weigth: 1}}]"],
            "trainer.callbacks: LwF has no 'weigth'; did you mean weight?",
        ),
        (
            ["--trainer.callbacks", "[{class_path: LwF, init_args: {weight: much}}]"],
            "trainer.callbacks: LwF.weight must be a number, got 'much'.",
        ),
        (
            ["--trainer.callbacks", "[{class_path: WiSEFT, init_args: {alpha: [0.1, two]}}]"],
            "trainer.callbacks: WiSEFT.alpha must be a number, a list of numbers or sweep, got \"[0.1, 'two']\".",
        ),
        (
            ["--trainer.callbacks", "[LwF, {class_path: WiSEFT, init_args: {alpha: swep}}]"],
            "trainer.callbacks: WiSEFT.alpha must be a number, a list of numbers or sweep, got 'swep'.",
        ),
        (
            ["--trainer.callbacks", "[{class_path: ForgettingBudget, init_args: {held_out: chart}}]"],
            "trainer.callbacks: ForgettingBudget.held_out must be a list of texts or null, got 'chart'; write [chart].",
        ),
        (
            ["--trainer.callbacks", "[{class_path: WiSEFT, init_args: {alpha: 1.5}}]"],
            "trainer.callbacks: WiSEFT.alpha must lie in [0, 1], or be a list of such numbers or sweep, got 1.5.",
        ),
        (
            ["--trainer.callbacks", "[{class_path: LwF, init_arg: {weight: 1}}]"],
            "trainer.callbacks: an entry has the unknown key 'init_arg'; did you mean init_args? "
            "It may hold class_path and init_args.",
        ),
        (
            ["--trainer.callbacks", "[nowhere.mine.Mine]"],
            "trainer.callbacks: nowhere.mine.Mine cannot be used: No module named 'nowhere'. A class of your own is "
            f"looked for in the folder that the command runs in: {Path.cwd() / 'nowhere' / 'mine.py'}.",
        ),
        (
            ["--trainer.callbacks", "[LwF, LwF]"],
            "trainer.callbacks: 2 callbacks are called LwF; give each a name of its own (name: ...).",
        ),
        (
            ["--data.tasks", "[count, count]"],
            "data.tasks: every task must be named once, got count 2 times; for more training give it more epochs.",
        ),
    ],
)
def test_a_mistake_in_the_config_is_named_with_the_way_out(config: Path, words: list[str], line: str) -> None:
    assert error("fit", "--config", config, *words) == line


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--trainer.strategy", "fsdp"], ["trainer.strategy", "'fsdp'", "fsdp2"]),
        (["--trainer.strategy", "deepspeed"], ["trainer.strategy", "'deepspeed'", "fsdp2"]),
        (["--trainer.precision", "bf16-true"], ["trainer.precision: bf16-true", "swallow", "Use bf16-mixed"]),
        (["--trainer.max_epochs", "3"], ["trainer.max_epochs", "data.tasks", "epochs: N"]),
        (["--data.tasks", "[cuont]"], ["data.tasks", "'cuont'", "did you mean 'count'?"]),
        (["--data.tasks", "[{task: count, epoch: 2}]"], ["data.tasks", "'epoch'", "did you mean 'epochs'"]),
        (["--data.tasks", "[]"], ["data.tasks", "at least one task"]),
        (["--model.recipe", "sa_prooj"], ["model.recipe", "'sa_prooj'", "Did you mean sa_proj?"]),
        (
            ["--trainer.accelerator", "gpu"],
            ["trainer.accelerator is gpu", "torch", "finds no such device here", "leave the key out"],
        ),
        (["--model.path", "./nowhere"], ["model.path: could not load ./nowhere: there is no such folder"]),
        (["--model.max_length", "12"], ["row 'count-test-", "12 tokens", "model.max_length"]),
    ],
)
def test_a_mistake_that_the_engine_finds_is_one_line_too(
    config: Path, words: list[str], parts: list[str]
) -> None:
    line = error("fit", "--config", config, *words)
    for part in parts:
        assert part in line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("- a\n", "--config: a YAML must hold keys (model, data, trainer, run, seed), not a list or a text."),
        ("model: {path: x, lrs: 3}\ndata: {tasks: [count]}\n", "model has no key 'lrs'; did you mean lr?"),
        ("modle: {path: x}\ndata: {tasks: [count]}\n", "there is no key 'modle'; did you mean model?"),
        (
            "model: {path: x, run: r}\ndata: {tasks: [count]}\n",
            "model.run must be given at the top of the YAML, as the key run.",
        ),
        ("model: x\ndata: {tasks: [count]}\n", "model must be a mapping of keys, got 'x'."),
        ("", "--config: a YAML must hold keys (model, data, trainer, run, seed), it is empty."),
        ("data: {tasks: [count]}\n", "model.path is missing: give it in the YAML or by --model.path."),
    ],
)
def test_a_yaml_that_says_something_else_is_refused(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    assert error("fit", "--config", tmp_path / "bad.yaml") == line


def test_a_command_without_words_says_what_it_needs() -> None:
    assert error("validate") == "model.path is missing: give it in the YAML or by --model.path."
    assert (
        error("export", "run", "--to", "x", "--stage", "last")
        == "--stage must be a whole number, got 'last'."
    )
    assert error("completion", "fish") == "SHELL must be bash or zsh, got 'fish'."
    assert error("preflight", "--decode", "half") == "--decode must be sample or all, got 'half'."
    assert error("preflight", "--show", "-1") == "--show must be a number of rows from 0, got -1."
    assert "did you mean" not in error("frobnicate")
    assert "did you mean validate?" in error("validat")
    assert error("fit", "--trainer.callbacks.help", "lwf").startswith(
        "trainer.callbacks: there is no 'lwf'; did"
    )


def test_a_yaml_that_cannot_be_read_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("model: {path: x\ndata: {tasks: [count]}\n")
    line = error("fit", "--config", tmp_path / "bad.yaml")
    assert line.startswith("--config: this is no valid YAML:")
    assert "line 2" in line
    assert "there is no file" in error("fit", "--config", tmp_path / "none.yaml")


def test_a_yaml_with_tabs_or_in_another_encoding_or_a_folder_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("model:\n\tpath: mini\n")
    assert "line 2, column 1; indent with spaces, not with tabs." in error("fit", "--config", path)
    path.write_bytes("run: Gr\xf6\xdfe".encode("latin-1"))
    assert "save it as UTF-8" in error("fit", "--config", path)
    assert "is a folder; name a YAML in it." in error("fit", "--config", tmp_path)


def test_a_key_that_stands_twice_is_refused_with_its_lines(tmp_path: Path) -> None:
    """YAML would keep the last one without a word."""
    path = tmp_path / "twice.yaml"
    path.write_text("model: {path: mini}\ndata:\n  tasks: [count]\n  batch_size: 8\n  batch_size: 16\n")
    line = error("fit", "--config", path)
    assert (
        line
        == f"--config: {path} has the key data.batch_size twice, in lines 4 and 5; join them, or remove one."
    )


def rows(folder: Path, number: int = 40) -> Path:
    """A JSONL of messages with a picture per row."""
    lines = []
    for i in range(number):
        Image.new("RGB", (48, 48), (5 * i, 128, 9)).save(folder / f"{i}.png")
        user = [{"type": "image"}, {"type": "text", "text": f"what is {i} ?"}]
        said = [
            {"role": "user", "content": user},
            {"role": "assistant", "content": [{"type": "text", "text": "red"}]},
        ]
        lines.append({"id": str(i), "messages": said, "images": [f"{i}.png"]})
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def files(tiny: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A JSONL, and a config that trains on it."""
    path = rows(tmp_path)
    config = tmp_path / "files.yaml"
    config.write_text(
        f"model: {{path: {tiny}}}\n"
        f"data: {{tasks: [{{task: mine, path: {path}, scorer: exact_match}}], batch_size: 8}}\n"
        f"trainer: {{precision: 32-true}}\nrun: {tmp_path / 'run'}\n"
    )
    return path, config


def test_a_missing_picture_is_named_with_file_and_row(files: tuple[Path, Path]) -> None:
    path, config = files
    (path.parent / "7.png").unlink()
    line = error("fit", "--config", config)
    assert f"{path}, row 8" in line or f"{path}, row 7" in line
    assert "7.png" in line


def test_a_broken_picture_is_named_with_its_row(files: tuple[Path, Path]) -> None:
    path, config = files
    for i in range(40):
        (path.parent / f"{i}.png").write_bytes(b"\x89PNG broken")
    line = error("fit", "--config", config)
    assert ".png" in line
    assert "row" in line


def test_an_empty_answer_is_named_with_file_and_row(files: tuple[Path, Path]) -> None:
    path, config = files
    path.write_text(path.read_text().replace('"red"', '""', 1))
    line = error("fit", "--config", config)
    assert str(path) in line
    assert "row" in line
    assert "answer" in line


def test_an_empty_split_is_named(files: tuple[Path, Path]) -> None:
    path, config = files
    path.write_text(path.read_text().splitlines(keepends=True)[0])
    line = error("fit", "--config", config)
    assert str(path) in line
    assert "must have rows for" in line


def test_a_recipe_that_trains_nothing_is_refused(config: Path) -> None:
    line = error("fit", "--config", config, "--model.recipe", "{train: llm.embed+head, layers: '0:'}")
    assert "model.recipe" in line
    assert "llm.embed+head" in line


def test_an_existing_run_needs_ckpt_path_last(finished: TinyRun) -> None:
    line = error("fit", "--config", finished.config)
    assert f"run: {finished.path} already holds a run" in line
    assert "--ckpt_path last" in line
    assert "--run" in line


def test_a_resume_with_another_config_names_what_changed(finished: TinyRun) -> None:
    before = contents(finished.path)
    line = error("fit", "--config", finished.config, "--ckpt_path", "last", "--model.lr", "0.5")
    assert "model.lr was 0.01, is 0.5" in line
    assert "--run" in line
    assert contents(finished.path) == before


def test_the_folder_of_a_run_is_no_model_to_audit(finished: TinyRun, tmp_path: Path) -> None:
    line = error("audit", "mini", finished.path, "--data", tmp_path / "eval.yaml")
    assert line.startswith(f"TUNED: {finished.path} is the folder of a run: export the stage that you mean")


def test_a_resume_of_nothing_says_so(config: Path) -> None:
    assert "holds no run to go on with" in error("fit", "--config", config, "--ckpt_path", "last")


def test_a_loss_that_is_not_finite_names_task_and_step(config: Path) -> None:
    line = error("fit", "--config", config, "--model.lr", "1e30", "--trainer.gradient_clip_val", "null")
    assert "the loss or gradient of task count is not finite at optimizer step" in line
    assert "model.lr" in line


@pytest.fixture
def full_disk() -> Iterator[None]:
    """Lets no file grow beyond 20 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_names_the_file_and_what_is_free(config: Path, tmp_path: Path) -> None:
    line = error("fit", "--config", config)
    assert f"run: could not write {tmp_path / 'run'}" in line
    assert "GB free" in line
    assert "--ckpt_path last" in line


def test_debug_shows_the_traceback_before_the_line(config: Path) -> None:
    code, _, errors = command("fit", "--config", config, "--model.lr", "-1", "--debug")
    assert code == 2
    assert "Traceback" in errors
    assert errors.splitlines()[-1] == "lmmcl: error: model.lr must be above 0, got -1.0."
