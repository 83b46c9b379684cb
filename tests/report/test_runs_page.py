"""Several runs: grouped, named, compared on what they have in common, or refused with the reason."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lmmcl.errors import UserError
from lmmcl.report.run_data import read_run
from lmmcl.report.runs_data import RunsData, read_runs, short_names
from lmmcl.report.runs_page import p_text, runs_page, sentence
from lmmcl.report.style import signed
from lmmcl.report.write_runs import runs_tables, write_runs_report
from tests.report.fake_folder import fake_folder
from tests.report.fake_run import HELD_OUT, TARGETS
from tests.report.test_run_page import Reader

LWF = ["lmmcl.callbacks.lwf.LwF", {"name": "LwF", "weight": 1.0}]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("several")
    made = [fake_folder(root / f"full_{s}", "full", seed=s, n=40, inside=s == 0) for s in range(2)]
    made += [fake_folder(root / f"sa_{s}", "sa_proj", seed=s, n=40) for s in range(2)]
    made += [
        fake_folder(root / f"lwf_{s}", "full", seed=s, n=40, shift=-4, callbacks=[LWF]) for s in range(2)
    ]
    return made


@pytest.fixture(scope="module")
def data(paths: list[Path]) -> RunsData:
    return read_runs(paths)


@pytest.fixture(scope="module")
def page(data: RunsData, paths: list[Path]) -> Reader:
    (paths[0] / "report.html").touch()
    return Reader(
        runs_page(data, paths[0].parent / "report" / "report.html", "figures/ and tables/.").decode()
    )


def test_runs_that_differ_only_in_seed_are_one_way(data: RunsData) -> None:
    assert [(way.name, list(way.members)) for way in data.ways] == [
        ("full", [0, 1]),
        ("sa_proj", [2, 3]),
        ("full + LwF", [4, 5]),
    ]


def test_a_ways_numbers_are_the_means_of_its_runs(data: RunsData, paths: list[Path]) -> None:
    for way in data.ways:
        summaries = [read_run(paths[i]).summary for i in way.members]
        for name in ("target_learning", "held_out_change"):
            values = [summary[name].value for summary in summaries if summary is not None]
            assert way.numbers[name].value == pytest.approx(float(np.mean(values)))


def test_the_front_is_what_no_other_way_beats(data: RunsData) -> None:
    points = {
        way.name: [way.numbers[n].value for n in ("target_learning", "held_out_change")] for way in data.ways
    }
    for way in data.ways:
        mine = points[way.name]
        beaten = any(o != mine and o[0] >= mine[0] and o[1] >= mine[1] for o in points.values())
        assert way.on_front == (not beaten)


def test_a_front_of_one_way_is_said_and_no_line_that_is_not_drawn(page: Reader, paths: list[Path]) -> None:
    said = " ".join(page.texts["front"])
    assert ("The dashed line is the Pareto front" in said) == bool(
        [one for one in page.named("polyline") if one.get("class") == "front"]
    )
    alone = read_runs([paths[0], paths[4]])
    (best,) = (way.name for way in alone.ways if way.on_front)
    shown = Reader(runs_page(alone, paths[0].parent / "x.html", "").decode())
    assert not [one for one in shown.named("polyline") if one.get("class") == "front"]
    assert f"No other way here beats {best} in either." in " ".join(shown.texts["front"])


def test_every_pair_is_tested_and_every_way_and_run_has_its_row(page: Reader, data: RunsData) -> None:
    assert [(one.first, one.second) for one in data.tests] == [
        ("full", "sa_proj"),
        ("full", "full + LwF"),
        ("sa_proj", "full + LwF"),
    ]
    for way in data.ways:
        assert way.name in page.texts["ways"] and way.name in page.texts["runs"]
    assert {"full_0", "lwf_1"} <= set(page.texts["runs"])
    assert "../full_0/report.html" in [link.get("href") for link in page.named("a")]


def test_a_difference_is_bold_where_its_interval_leaves_zero_out(page: Reader, data: RunsData) -> None:
    tests = [test for one in data.tests for test in one.tests]
    sure = [test for test in tests if not test.low <= 0 <= test.high and abs(test.value) >= 0.05]
    assert 0 < len(sure) < len(tests)
    assert len([one for one in page.named("b") if one.get("class") in ("gain", "loss")]) == len(sure)


def test_only_what_differs_is_listed(data: RunsData, page: Reader) -> None:
    assert set(data.differing) == {"model.recipe", "callbacks", "LwF.weight"}
    assert "HeldOutEvaluation" not in page.texts["settings"]


def test_probes_are_correlated_over_the_runs_that_have_them(data: RunsData, page: Reader) -> None:
    assert {one.probe for one in data.correlations} == {"NumberTokenBias", "LayerContribution"}
    assert "numbers" in page.texts["probes"]


def test_every_sortable_column_has_a_button(page: Reader) -> None:
    tables = [one for one in page.named("table") if "sortable" in str(one.get("class"))]
    assert len(tables) == 4
    assert len(page.named("button")) > 25


def test_the_sentence_says_where_no_difference_is_clear(data: RunsData) -> None:
    assert "Chance" not in sentence(data)
    flat = [
        replace(one, tests=[replace(test, low=-1.0, high=1.0) for test in one.tests]) for one in data.tests
    ]
    said = sentence(replace(data, tests=flat))
    assert said.endswith("Chance may have made this order: no difference between two ways is clear.")


def test_the_sentence_names_who_learned_most_and_who_lost_least(data: RunsData) -> None:
    assert sentence(data).count("points on the targets") == 2
    assert "sa_proj lost least" in sentence(data)


def test_tables_hold_every_number(data: RunsData) -> None:
    tables = {
        name: list(csv.DictReader(io.StringIO(text.decode()))) for name, text in runs_tables(data).items()
    }
    assert {"ways", "runs", "tests", "settings", "correlations", "costs"} == set(tables)
    learned = next(r for r in tables["ways"] if r["way"] == "sa_proj" and r["statistic"] == "target_learning")
    assert float(learned["value"]) == data.ways[1].numbers["target_learning"].value
    assert {row["run"] for row in tables["runs"]} == set(data.names)
    assert len(tables["tests"]) == 2 * len(data.tests)


def test_an_unfinished_run_is_left_out_and_said(paths: list[Path], tmp_path: Path) -> None:
    half = fake_folder(tmp_path / "half", stages=2, n=40)
    data = read_runs([paths[0], half])
    assert [way.name for way in data.ways] == ["full"]
    shown = Reader(runs_page(data, tmp_path / "page.html", "").decode())
    assert "Left out, not finished: half (2 of 5 stages measured)." in shown.texts[""]
    with pytest.raises(UserError, match=r"needs a finished run, and none of these is \(half: 2 of 5 stages"):
        read_runs([half])


def test_other_held_out_tasks_are_left_out_and_said(paths: list[Path], tmp_path: Path) -> None:
    other = fake_folder(tmp_path / "other", "sa_proj", held_out=HELD_OUT[:3], n=40)
    data = read_runs([paths[0], other])
    assert [list(run.held_out) for run in data.runs.runs] == [HELD_OUT[:3]] * 2
    assert data.notes == [
        "Compared on the 3 held-out tasks that all runs measured on the same examples. Left out: "
        f"{', '.join(HELD_OUT[3:])}."
    ]


def test_runs_that_cannot_be_compared_are_refused(paths: list[Path], tmp_path: Path) -> None:
    fewer = fake_folder(tmp_path / "fewer", targets=["species", "count"], stages=2, n=40)
    with pytest.raises(UserError, match="full_0 and fewer differ in clock, tissue, word"):
        read_runs([paths[0], fewer])
    more = fake_folder(tmp_path / "more", n=50)
    with pytest.raises(UserError, match="different examples of species \\(40 and 50\\)"):
        read_runs([paths[0], more])
    alone = fake_folder(tmp_path / "alone", held_out=[], n=40)
    with pytest.raises(UserError, match="none in common"):
        read_runs([paths[0], alone])
    with pytest.raises(UserError, match="named once"):
        read_runs([paths[0], paths[0]])


def test_the_report_lies_with_its_figure_and_tables(data: RunsData, tmp_path: Path) -> None:
    write_runs_report(data, tmp_path / "study.html")
    found = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"study.html", "study_figures", "study_tables"}
    assert sorted(path.name for path in (tmp_path / "study_figures").iterdir()) == [
        "comparison.png",
        "comparison.svg",
    ]


def test_runs_without_held_out_tasks_are_compared_by_their_targets(tmp_path: Path) -> None:
    made = [fake_folder(tmp_path / like, like, held_out=[], n=40) for like in ("full", "sa_proj")]
    data = read_runs(made)
    page = write_runs_report(data, tmp_path / "report.html")
    shown = Reader(page.read_text())
    assert "held-out change" not in shown.texts["ways"]
    assert any(
        "full learned most" in words and "on the earlier targets" in words for words in shown.texts[""]
    )
    assert [test.name for test in data.tests[0].tests] == ["target_learning", "target_forgetting"]


def test_without_held_out_tasks_learning_is_set_against_forgetting(tmp_path: Path) -> None:
    made = [fake_folder(tmp_path / like, like, held_out=[], n=40) for like in ("full", "sa_proj")]
    data = read_runs(made)
    page = write_runs_report(data, tmp_path / "report.html")
    shown = Reader(page.read_text())
    assert {"target forgetting, points →", "nothing forgotten"} <= set(shown.texts["front"])
    numbers = data.ways[0].numbers["target_forgetting"]
    assert any(
        f"forgetting {signed(numbers.value, 1)} [" in str(one.get("data-tip"))
        for one in shown.named("circle")
    )
    assert "target forgetting, points" in (tmp_path / "figures" / "comparison.svg").read_text()
    assert any(way.on_front for way in data.ways)


def test_orders_are_not_tested_by_what_each_forgot_of_other_targets(tmp_path: Path) -> None:
    orders = [TARGETS[:2], TARGETS[1::-1]]
    made = [
        fake_folder(tmp_path / f"o{i}", held_out=[], targets=order, stages=2, n=20)
        for i, order in enumerate(orders)
    ]
    data = read_runs(made)
    assert [test.name for test in data.tests[0].tests] == ["target_learning"]


def test_the_footer_names_what_was_written_and_nothing_else(tmp_path: Path) -> None:
    for targets, made in ((["species"], {"tables"}), (["species", "count"], {"tables", "figures"})):
        folder = tmp_path / str(len(targets))
        runs = [
            fake_folder(folder / like, like, held_out=[], targets=targets, stages=len(targets), n=20)
            for like in ("full", "sa_proj")
        ]
        page = write_runs_report(read_runs(runs), folder / "several" / "many.html")
        said = " ".join(Reader(page.read_text()).texts["runs"])
        assert {name for name in ("tables", "figures") if f"many_{name}/" in said} == made
        assert {path.name for path in page.parent.iterdir()} == {
            "many.html",
            *(f"many_{one}" for one in made),
        }
        assert "many_tables/. Made by" in said


def test_a_single_stage_has_no_recovery_to_compare(tmp_path: Path) -> None:
    runs = [
        fake_folder(tmp_path / like, like, targets=["species"], held_out=["chart"], stages=1, n=20)
        for like in ("full", "sa_proj")
    ]
    shown = Reader(runs_page(read_runs(runs), tmp_path / "page.html", "").decode())
    assert "held-out change" in shown.texts["ways"]
    assert not {"recovery", "worst held-out", "target forgetting"} & set(shown.texts["ways"])


def test_probes_make_no_other_way(tmp_path: Path) -> None:
    probe = ["lmmcl.callbacks.weight_drift.WeightDrift", {"name": "WeightDrift", "matrices": 4}]
    runs = [
        fake_folder(
            tmp_path / f"s{seed}", seed=seed, stages=1, targets=["species"], n=20, callbacks=callbacks
        )
        for seed, callbacks in enumerate(([], [probe]))
    ]
    data = read_runs(runs)
    assert [(way.name, list(way.members)) for way in data.ways] == [("full", [0, 1])]
    assert not data.differing


def test_ways_with_one_seed_in_common_are_not_tested_over_examples(tmp_path: Path) -> None:
    runs = [
        fake_folder(tmp_path / f"{recipe}_{seed}", recipe, seed=seed, stages=1, targets=["species"], n=20)
        for recipe, seed in (("full", 0), ("full", 1), ("sa_proj", 1), ("sa_proj", 2))
    ]
    assert read_runs(runs).tests == []


def test_names_are_as_short_as_tells_them_apart() -> None:
    assert short_names([Path("/a/x/run"), Path("/a/y/run")]) == ["x/run", "y/run"]
    assert short_names([Path("/a/one"), Path("/a/two")]) == ["one", "two"]


def test_p_values_read_as_they_should() -> None:
    assert [p_text(p) for p in (0.00004, 0.0123, 0.049, 0.31)] == ["< 0.001", "0.012", "0.049", "0.31"]
