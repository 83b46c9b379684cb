"""`lmmcl preflight`: a sound config passes, every planted fault is named, all of them in one run."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from lmmcl.callbacks import LmmsEval
from lmmcl.cli.config_parts import ConfigParts
from lmmcl.cli.preflight import USAGE, size_of
from lmmcl.errors import UserError
from tests.preflight.planted import FAULTS, PlantedSet
from tests.tiny_run import command, write_config


def findings(*words: object) -> tuple[int, list[dict[str, Any]]]:
    """Exit code and findings of a preflight."""
    code, output, errors = command("preflight", "--json", "--show", 0, *words)
    assert not errors.startswith("lmmcl: error"), errors
    found: list[dict[str, Any]] = json.loads(output)
    return code, found


def failures(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [finding for finding in found if finding["level"] == "failure"]


@pytest.fixture
def planted(tmp_path: Path) -> PlantedSet:
    return PlantedSet(tmp_path)


def test_a_sound_set_passes(planted: PlantedSet, tiny: Path) -> None:
    code, found = findings("--config", planted.write(), "--model.path", tiny)
    assert (code, failures(found)) == (0, [])
    checks = {finding["check"] for finding in found}
    assert checks == {
        "tasks", "rows", "pictures", "scorer", "mask", "length", "features", "recipe", "memory", "disk", "steps",
        "duplicates",
    }  # fmt: skip


def test_a_sound_set_with_adapters_passes_and_says_what_they_add(planted: PlantedSet, tiny: Path) -> None:
    callbacks = "[{class_path: LoRA, init_args: {rank: 4}}]"
    words = ["--model.recipe", "mlp_gate_up", "--trainer.callbacks", callbacks]
    code, found = findings("--config", planted.write(), "--model.path", tiny, *words)
    assert (code, failures(found)) == (0, [])
    (said,) = [finding["text"] for finding in found if finding["check"] == "adapters"]
    # 2 layers, gate and up: (32 inputs + 64 outputs) x rank 4
    assert said.startswith("1.5 K parameters are added")


@pytest.mark.parametrize("kind", FAULTS)
def test_a_planted_fault_is_named_and_is_the_only_failure(kind: str, planted: PlantedSet, tiny: Path) -> None:
    plant, check, parts = FAULTS[kind]
    plant(planted)
    code, found = findings("--config", planted.write(), "--model.path", tiny, *planted.words)
    assert code == 2
    named = [
        f for f in failures(found) if f["check"] == check and all(p in f["text"] + f["task"] for p in parts)
    ]
    assert named, found
    assert {finding["check"] for finding in failures(found)} == {check}, failures(found)


def test_all_planted_faults_are_named_in_one_run(planted: PlantedSet, tiny: Path) -> None:
    for plant, _, _ in FAULTS.values():
        plant(planted)
    code, found = findings("--config", planted.write(), "--model.path", tiny, *planted.words)
    assert code == 2
    for kind, (_, check, parts) in FAULTS.items():
        said = [f["text"] + f["task"] for f in failures(found) if f["check"] == check]
        assert any(all(part in text for part in parts) for text in said), (kind, said)


def test_rows_that_a_run_would_drop_only_warn(planted: PlantedSet, tiny: Path) -> None:
    planted.empty_answer()
    planted.broken_picture()
    words = ["--config", planted.write(), "--model.path", tiny, "--data.on_bad_row", "drop"]
    code, found = findings(*words)
    assert (code, failures(found)) == (0, [])
    assert {f["check"] for f in found if f["level"] == "warning"} == {"rows", "pictures"}


def test_a_model_that_is_not_there_does_not_hide_what_is_wrong_with_the_rows(planted: PlantedSet) -> None:
    planted.empty_answer()
    planted.gold_unreadable()
    code, found = findings("--config", planted.write(), "--model.path", "./nowhere")
    assert code == 2
    assert {finding["check"] for finding in failures(found)} == {"model", "rows", "scorer"}


def test_a_callback_that_cannot_be_made_is_named_beside_the_rest(planted: PlantedSet, tiny: Path) -> None:
    planted.empty_answer()
    callbacks = "[{class_path: WiSEFT, init_args: {alpha: 1.5}}]"
    words = ["--config", planted.write(), "--model.path", tiny, "--trainer.callbacks", callbacks]
    _, found = findings(*words)
    assert {finding["check"] for finding in failures(found)} == {"trainer", "rows"}


@pytest.mark.skipif(find_spec("lmms_eval") is not None, reason="lmms-eval is installed")
def test_lmms_eval_that_is_not_installed_fails_and_its_answers_are_said_not_to_be_timed(
    planted: PlantedSet, tiny: Path
) -> None:
    callbacks = "[{class_path: LmmsEval, init_args: {tasks: [nope_task]}}]"
    words = ["--config", planted.write(), "--model.path", tiny, "--trainer.callbacks", callbacks, "--time"]
    code, found = findings(*words)
    assert code == 2
    assert [(f["check"], f["task"]) for f in failures(found)] == [("tasks", "LmmsEval")]
    assert "not installed" in failures(found)[0]["text"]
    assert [f["check"] for f in found if f["level"] == "warning"] == ["time"]


def test_tasks_of_lmms_eval_that_do_not_load_are_a_failure(
    planted: PlantedSet, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(self: LmmsEval, taken: set[str]) -> None:
        raise UserError(f"LmmsEval.tasks: no task {self.tasks[0]!r} beside {sorted(taken)}")

    monkeypatch.setattr(LmmsEval, "load", load)
    callbacks = "[{class_path: LmmsEval, init_args: {tasks: [nope_task]}}]"
    parts = ConfigParts(
        ["--config", str(planted.write()), "--model.path", str(tiny), "--trainer.callbacks", callbacks], USAGE
    )
    assert [(f.level, f.check, f.text) for f in parts.lmms_tasks(timed=False)] == [
        ("failure", "tasks", "LmmsEval.tasks: no task 'nope_task' beside ['shelf']")
    ]


@pytest.mark.parametrize("words", [(), ("--trainer.accelerator", "gpu")])
def test_callbacks_that_cannot_work_together_fail_on_devices_that_are_here_or_not(
    words: tuple[str, ...], planted: PlantedSet, tiny: Path
) -> None:
    callbacks = ["--trainer.callbacks", "[WiSEFT, EMA]"]
    parts = ConfigParts(
        ["--config", str(planted.write()), "--model.path", str(tiny), *callbacks, *words], USAGE
    )
    (failure,) = [fault for fault in parts.faults if fault.level == "failure"]
    assert failure.check == "trainer" and "trainer.callbacks: list EMA before WiSEFT" in failure.text


def test_devices_that_are_not_here_only_warn_and_memory_is_told_for_them(
    planted: PlantedSet, tiny: Path
) -> None:
    gpus = ["--trainer.accelerator", "gpu", "--trainer.devices", 8, "--trainer.strategy", "fsdp2"]
    code, found = findings("--config", planted.write(), "--model.path", tiny, *gpus, "--gpu_memory", "80GiB")
    assert code == 0
    assert [f["check"] for f in found if f["level"] == "warning"] == ["trainer"]
    memory = next(f["text"] for f in found if f["check"] == "memory")
    assert "each of 8 devices under fsdp2" in memory
    assert "it has 80.0 GiB" in memory


def test_the_keys_of_fit_are_keys_here_and_a_wrong_one_is_one_line(planted: PlantedSet, tiny: Path) -> None:
    config = write_config(planted.folder, tiny, planted.folder / "run")
    assert findings("--config", config)[0] == 0
    code, _, errors = command("preflight", "--config", config, "--model.lrr", 3)
    assert (code, errors) == (2, "lmmcl: error: model has no key 'lrr'; did you mean lr?\n")


def test_the_table_and_the_first_samples_are_printed(planted: PlantedSet, tiny: Path) -> None:
    planted.too_long()
    code, output, _ = command("preflight", "--config", planted.write(), "--model.path", tiny)
    assert code == 2
    assert "shelf: row 'train-1'" in output
    assert "‹16 image tokens›" in output
    assert "⟦B<|end|>⟧" in output
    assert "FAILURE" in output
    assert "1 failure: this run would fail" in output


def test_time_is_measured_when_asked_for(planted: PlantedSet, tiny: Path) -> None:
    _, found = findings("--config", planted.write(), "--model.path", tiny, "--time")
    said = [finding["text"] for finding in found if finding["check"] == "time"]
    assert [text.split(" about")[0] for text in said] == ["training", "evaluation (2 times)"]


def test_sizes_are_read_as_people_write_them() -> None:
    assert size_of("80GiB") == 80 * 2**30
    assert size_of("24 GB") == 24 * 10**9
    assert size_of("1.5Ti") == 3 * 2**39
    assert size_of("1000") == 1000
    for wrong in ("much", "0", "80 Gig", ""):
        with pytest.raises(UserError, match=r"^--gpu_memory must be a size such as 80GiB, got"):
            size_of(wrong)
