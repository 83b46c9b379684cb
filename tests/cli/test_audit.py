"""`lmmcl audit` from the command line: what it prints and leaves, its exit codes, its mistakes."""

import csv
import json
import re
from pathlib import Path

import pytest
import yaml

from tests.audit.broken import Broken, moved_copy, write_data
from tests.tiny_run import command


@pytest.fixture(scope="module")
def broken(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Broken:
    """The tiny model, a copy that was broken in two groups, and what each of them knows; nothing is critical."""
    folder = tmp_path_factory.mktemp("broken")
    tuned = moved_copy(tiny, folder / "tuned", {"llm.mlp.up": 0.02, "llm.attn.v": 0.005})
    return Broken(tiny, tuned, write_data(folder, {"new": tuned, "held": tiny}))


def words(broken: Broken, run: Path, *more: object) -> list[object]:
    return ["audit", broken.base, broken.tuned, "--data", broken.data, "--run", run, "--device", "cpu", *more]


def files(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_an_audit_prints_leaves_and_repairs_and_costs_nothing_the_second_time(
    broken: Broken, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    options = ("--precision", "32-true", "--budget", 30)
    code, output, errors = command(*words(broken, run, *options))
    assert (code, errors) == (0, "")
    for part in (
        "what was gained and lost",
        "what moved",
        "llm.mlp.up",
        "α 0.5",
        "within 30 points",
        "--repair",
    ):
        assert part in output
    assert all(len(line) <= 100 for line in output.splitlines() if str(run) not in line)
    held = json.loads((run / "audit.json").read_bytes())
    assert [task["task"] for task in held["tuned_on_test"]["tasks"]] == ["new", "held"]
    rows = list(csv.DictReader((run / "audit.csv").read_text().splitlines()))
    mean = next(
        r
        for r in rows
        if (r["model"], r["part"], r["task"], r["role"]) == ("tuned", "test", "mean", "held_out")
    )
    assert float(mean["change"]) == held["tuned_on_test"]["held_out"]["value"]
    flips = list(csv.DictReader((run / "flips.csv").read_text().splitlines()))
    assert len([r for r in flips if r["model"] == "tuned"]) == len(held["tuned_on_test"]["flips"]) > 0
    groups = list(csv.DictReader((run / "groups.csv").read_text().splitlines()))
    assert [row["group"] for row in groups if row["changed"] != "0"] == ["llm.attn.v", "llm.mlp.up"]
    page = (run / "audit.html").read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", page)
    for part in ("What was gained and lost", "llm.mlp.up", "<svg", "Answers that went from right to wrong"):
        assert part in page
    assert str(tmp_path) not in page
    first = files(run)
    code, output, errors = command(*words(broken, run, *options, "--repair", "--to", tmp_path / "repaired"))
    assert (code, errors) == (0, "")
    assert files(run) == first
    assert (tmp_path / "repaired" / "model.safetensors").exists()
    assert f"{tmp_path / 'repaired'}: {held['choice']['best']}" in output.replace("\n", "")


def test_a_model_against_itself_is_quiet(broken: Broken, tmp_path: Path) -> None:
    same = Broken(broken.base, broken.base, broken.data)
    code, output, errors = command(*words(same, tmp_path / "run"))
    assert (code, errors) == (0, "")
    assert "no tensor moved" in output


def test_a_critical_row_that_flipped_gives_exit_code_3_and_a_repair_without_one_does_not(
    broken: Broken, tmp_path: Path
) -> None:
    listed = yaml.safe_load(broken.data.read_text())
    plain = tmp_path / "plain"
    assert command(*words(broken, plain, "--precision", "32-true", "--budget", 25))[0] == 0
    held = json.loads((plain / "audit.json").read_bytes())
    lost = {flip["id"] for flip in held["tuned_on_test"]["flips"] if flip["direction"] == "lost"}
    still = {
        flip["id"] for one in held["chosen_on_test"] for flip in one["flips"] if flip["direction"] == "lost"
    }
    assert lost - still
    source = Path(listed["held_out"][0]["path"])
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    marked = [{**row, "critical": True} if row["id"] in lost - still else row for row in rows]
    (tmp_path / "held.jsonl").write_text("\n".join(map(json.dumps, marked)))
    listed["held_out"][0]["path"] = str(tmp_path / "held.jsonl")
    (tmp_path / "eval.yaml").write_text(yaml.safe_dump(listed))
    critical = Broken(broken.base, broken.tuned, tmp_path / "eval.yaml")
    options = ("--precision", "32-true", "--budget", 25)
    code, _, errors = command(*words(critical, plain, *options, "--compare_only"))
    assert code == 3
    assert "critical row" in errors and min(lost - still) in errors
    code, _, errors = command(
        *words(critical, tmp_path / "run", *options, "--repair", "--to", tmp_path / "repaired")
    )
    assert (code, errors) == (0, "")


def test_help_says_what_it_takes() -> None:
    code, output, _ = command("audit", "--help")
    assert code == 0
    for part in ("BASE", "TUNED", "--data", "--repair", "--budget", "held_out", "exit code 3"):
        assert part in output


def test_mistakes_are_one_line_with_the_way_out(broken: Broken, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for more, part in (
        (["--budget", "-1"], "--budget must be a number of points from 0"),
        (
            ["--budget", "much"],
            "--budget must be a number of points from 0 (inf allows everything), got 'much'.",
        ),
        (["--repair"], "--repair needs the folder to make: --to DIR"),
        (["--to", tmp_path / "x"], "add --repair"),
        (["--repair", "--to", broken.base], "which is read, hold one another"),
        (["--repair", "--to", tmp_path / "x", "--compare_only"], "remove one"),
        (["--precision", "bf16"], "--precision must be bf16-mixed or 32-true"),
        (["--batch_size", "0"], "--batch_size must be a whole number from 1"),
        (["--device", "abacus"], "--device: 'abacus' is no device"),
        (["--repiar"], "did you mean --repair"),
    ):
        code, _, errors = command(*words(broken, run, *more))
        assert code == 2
        assert part in errors
        assert errors.count("\n") == 1
    code, _, errors = command(
        "audit", tmp_path / "none", broken.tuned, "--data", broken.data, "--device", "cpu"
    )
    assert code == 2 and "could not load" in errors
    code, _, errors = command("audit", broken.base, broken.tuned)
    assert code == 2 and "--data" in errors
    assert not run.exists()
