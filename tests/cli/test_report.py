"""`lmmcl report`: one page for one run or several, and one clear error for what is no run."""

from pathlib import Path

import pytest

from tests.report.fake_folder import fake_folder
from tests.tiny_run import TinyRun, command


def test_one_run_is_reported_in_its_folder(tmp_path: Path) -> None:
    run = fake_folder(tmp_path / "run", targets=["species"], held_out=["chart"], stages=1, n=20)
    code, output, errors = command("report", run)
    assert (code, output, errors) == (0, f"{run / 'report.html'}\n", "")
    assert {"report.html", "figures", "tables"} <= {path.name for path in run.iterdir()}


def test_several_runs_are_compared_where_one_asks_for_it(tmp_path: Path) -> None:
    runs = [
        fake_folder(tmp_path / recipe, recipe, targets=["species"], held_out=["chart"], stages=1, n=20)
        for recipe in ("full", "sa_proj")
    ]
    page = tmp_path / "out" / "study.html"
    assert command("report", *runs, "--to", page) == (0, f"{page}\n", "")
    assert "Two ways to learn one task" in page.read_text()


def test_a_finished_fit_has_written_its_report_without_its_times(finished: TinyRun) -> None:
    page = (finished.path / "report.html").read_text()
    assert "taught count and word" in page and "LwF" in page
    assert "<summary>Cost" not in page
    assert not (finished.path / "tables" / "cost.csv").exists()


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ([], "no such folder"),
        (["empty/"], "holds no run"),
        (["config.json"], "has measured nothing yet"),
        (["matrix.json"], "is damaged"),
    ],
)
def test_what_is_no_run_is_one_error(tmp_path: Path, made: list[str], said: str) -> None:
    run = tmp_path / "run"
    for name in made:
        run.mkdir()
        if not name.endswith("/"):
            (run / name).write_text("{")
    code, output, errors = command("report", run)
    assert (code, output) == (2, "")
    assert errors.startswith("lmmcl: error: ") and said in errors and str(run) in errors
    assert errors.count("\n") == 1


def test_a_page_must_be_html(tmp_path: Path) -> None:
    code, _, errors = command("report", tmp_path, "--to", tmp_path / "report.pdf")
    assert code == 2 and "must be a file that ends in .html" in errors
