"""``lmmcl merge`` says what it did, and names mistakes."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from tests.merge.two_models import SINGLE, tuned_from
from tests.tiny_run import command


def test_it_merges_two_models_and_says_what_moved(tiny: Path, tmp_path: Path) -> None:
    one, two = tuned_from(tiny, tmp_path / "one", 1), tuned_from(tiny, tmp_path / "two", 2)
    to = tmp_path / "to"
    code, output, errors = command("merge", tiny, one, two, "--to", to, "--method", "ties", "--keep", 0.5)
    assert (code, errors) == (0, "")
    assert output.startswith(
        f"{to} (TIES: kept the largest 0.5 of each of 2 task vectors, base + 1 × the mean"
    )
    assert "% of" in output and "of one's, " in output and "of two's." in output
    base, merged = load_file(tiny / SINGLE), load_file(to / SINGLE)
    assert any(not torch.equal(base[key], value) for key, value in merged.items())
    told = json.loads((to / "lmmcl.json").read_text())["merge"]
    assert told == {
        "base": "tiny",
        "method": "ties",
        "settings": {"keep": 0.5, "weight": 1.0},
        "tuned": ["one", "two"],
    }


def test_mistakes_are_named(tiny: Path, tmp_path: Path) -> None:
    one = tuned_from(tiny, tmp_path / "one", 1)
    for words, message in (
        (["--method", "ties", "--drop", "0.5"], "--drop is no setting of ties"),
        (["--method", "mean"], "--method must be one of"),
        (["--method", "wise_ft", "--alpha", "2"], "--alpha must lie in [0, 1], got 2.0"),
        (["--method", "ties", "--kepe", "0.5"], "--keep"),
        ([], "--method"),
    ):
        code, _, errors = command("merge", tiny, one, "--to", tmp_path / "to", *words)
        assert code == 2 and message in errors
    code, _, errors = command("merge", tiny, one, one, "--to", tmp_path / "to", "--method", "wise_ft")
    assert code == 2 and "wise_ft interpolates between the base and one tuned model, got 2" in errors
    assert not (tmp_path / "to").exists()


def test_model_tailor_runs_the_tuned_model_on_rows_of_its_targets(tiny: Path, tmp_path: Path) -> None:
    one, to = tuned_from(tiny, tmp_path / "one", 1), tmp_path / "to"
    data = tmp_path / "eval.yaml"
    data.write_text("targets: [count]\nheld_out: [chart]\n")
    words = ["--method", "model_tailor", "--keep", 0.25, "--samples", 2, "--data", data]
    code, output, errors = command("merge", tiny, one, "--to", to, *words)
    assert (code, errors) == (0, "")
    assert output.startswith(f"{to} (Model Tailor: kept 0.25 of the task vector, adjusted on 2 rows")
    base, tuned, merged = (load_file(folder / SINGLE) for folder in (tiny, one, to))
    for key, value in merged.items():
        moved = int((value != base[key]).sum())
        assert moved <= round(0.25 * value.numel()) + 1
        assert moved or value.numel() < 2
    adjusted = [key for key, value in merged.items() if ((value != base[key]) & (value != tuned[key])).any()]
    assert any(key.endswith("q_proj.weight") for key in adjusted)
    told = json.loads((to / "lmmcl.json").read_text())["merge"]
    assert told["data"] == "eval.yaml" and told["settings"]["samples"] == 2


def test_model_tailor_names_what_it_lacks(tiny: Path, tmp_path: Path) -> None:
    one = tuned_from(tiny, tmp_path / "one", 1)
    data = tmp_path / "eval.yaml"
    data.write_text("held_out: [chart]\n")
    tailor = ["--method", "model_tailor"]
    for tuned, words, message in (
        ([one], tailor, "give --data FILE, a YAML with targets"),
        ([one], [*tailor, "--data", data], "targets must list at least one task, what TUNED was tuned for"),
        ([one], [*tailor, "--data", tmp_path / "none.yaml"], "there is no file"),
        ([one, one], [*tailor, "--data", data], "one tuned model, got 2; merge them by another method first"),
        ([one], [*tailor, "--damping", 0], "--damping must be above 0, got 0.0"),
        ([one], [*tailor, "--samples", 0], "--samples must be at least 1, got 0"),
        (
            [one],
            ["--method", "ties", "--data", data],
            "--data is for --method model_tailor; ties needs no rows",
        ),
    ):
        code, _, errors = command("merge", tiny, *tuned, "--to", tmp_path / "to", *words)
        assert code == 2 and message in errors
    assert not (tmp_path / "to").exists()
