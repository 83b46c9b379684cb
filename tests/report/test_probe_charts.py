"""Probes as charts: one for each kind of rank, titles that tell them apart, and nothing said twice."""

from pathlib import Path

import pytest

from lmmcl.evaluation.probe_log import ProbeLog, ProbeRow
from lmmcl.report.csv_tables import run_tables
from lmmcl.report.probe_charts import probe_charts
from lmmcl.report.run_data import RunData, read_run
from lmmcl.report.run_page import chart_view
from tests.report.fake_folder import STEPS, fake_folder
from tests.report.fake_run import TARGETS

KINDS: dict[str, list[float]] = {
    "numerical": [0, 100, 90, 95, 80, 100],
    "stable": [0, 1, 3, 2, 5, 4],
    "entropy": [0, 7, 2, 9, 4, 10],
}
GROUPS = ["llm.attn.k", "llm.mlp.up", "llm.embed+head"]


def logged(folder: Path, name: str, title: str, unit: str, about: str, *values: dict[str, float]) -> None:
    """A log with a reading of each stage."""
    log = ProbeLog(folder, name)
    log.describe("Probe", title, unit, about)
    for k, one in enumerate(values):
        log.put(ProbeRow(k, f"{k:02}-{['base', *TARGETS][k]}", STEPS * k, "stage", one))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunData:
    folder = fake_folder(tmp_path_factory.mktemp("probed"), held_out=["chart"], n=20)
    ranks = [
        {f"{g} {kind} rank": ys[k] * (i + 1) for kind, ys in KINDS.items() for i, g in enumerate(GROUPS)}
        for k in range(6)
    ]
    logged(folder, "WeightDrift rank", "Rank of the change", "rank", "Rank, mean over matrices.", *ranks)
    twice = [{"a": float(k)} for k in range(6)]
    logged(folder, "Bias", "numbers in captions", "probability", "Probability of numbers.", *twice)
    logged(folder, "Bias logits", "numbers in captions", "logit", "Largest of numbers.", *twice)
    nothing = float("nan")
    logged(folder, "Back", "Back", "share", "Share.", {"a": nothing}, {"a": 0.1}, {"a": 0.2})
    return read_run(folder)


def test_each_kind_of_rank_has_its_chart_labelled_by_group(run: RunData) -> None:
    charts = {chart.title: chart for chart, _ in probe_charts(run) if chart.title.startswith("Rank")}
    assert list(charts) == [f"Rank of the change: {kind}" for kind in KINDS]
    for kind, ys in KINDS.items():
        chart = charts[f"Rank of the change: {kind}"]
        assert chart.name == f"probe_WeightDrift {kind} rank"
        assert {line.name: line.y[-1] for line in chart.lines} == {
            group: ys[-1] * (i + 1) for i, group in enumerate(GROUPS)
        }
        assert f"{kind.capitalize()}: " in chart.about
        drawn = str(chart_view(chart).svg)
        assert all(f">{group}</text>" in drawn for group in GROUPS), "whole, not cut"


def test_a_part_of_a_log_has_its_own_correlation(run: RunData) -> None:
    words = [said for chart, said in probe_charts(run) if chart.title.startswith("Rank")]
    assert len(set(words)) == 3
    assert all(said.split("\u201d")[0].removeprefix("Correlation of \u201c") in GROUPS for said in words)


def test_the_table_keeps_the_whole_log(run: RunData) -> None:
    assert b"llm.mlp.up stable rank" in run_tables(run, {}, [])["probes"]


def test_two_charts_never_have_one_title(run: RunData) -> None:
    titles = [chart.title for chart, _ in probe_charts(run)]
    assert {"numbers in captions: probability", "numbers in captions: logit"} <= set(titles)
    assert len(set(titles)) == len(titles)


def test_a_unit_that_the_caption_says_is_not_said_again(run: RunData) -> None:
    units = {chart.name: chart_view(chart).unit for chart, _ in probe_charts(run)}
    assert units["probe_WeightDrift stable rank"] == "" == units["probe_Bias"]
    logit = next(chart for chart, _ in probe_charts(run) if chart.name == "probe_Bias logits")
    assert chart_view(logit).unit == "", "the title says it"
    assert f"{units}".count("share") == 0


def test_no_stage_is_named_before_the_axis_begins(run: RunData) -> None:
    chart = next(chart for chart, _ in probe_charts(run) if chart.title == "Back")
    first, _ = chart.x_range
    assert first == STEPS
    assert [name for _, name in chart.ticks] == TARGETS[1:]
    assert min(where for where, _ in chart.ticks) > first
