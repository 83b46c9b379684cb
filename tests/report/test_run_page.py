"""The page of a run: whole, safe, without what the run does not have, and the same every time."""

import csv
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typing_extensions import override

from lmmcl.evaluation.flipped_examples import read_flips
from lmmcl.evaluation.matrix import Matrix
from lmmcl.evaluation.summary import Summary
from lmmcl.report.csv_tables import run_tables
from lmmcl.report.matrix_view import cell_intervals
from lmmcl.report.run_charts import held_out_curves
from lmmcl.report.run_data import read_run
from lmmcl.report.run_page import run_page
from lmmcl.report.write_run import write_run_report
from tests.report.fake_folder import NASTY, fake_folder, with_variant


class Reader(HTMLParser):
    """Collects what a page holds: elements with their attributes, and texts by section."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {"": []}
        self._section = ""
        self.feed(page)

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "section":
            self._section = str(dict(attrs).get("id"))
            self.texts[self._section] = []

    @override
    def handle_data(self, data: str) -> None:
        self.texts[self._section].append(data.strip())

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(folder: Path, summary: Summary | None = None) -> str:
    """The page that ``fit`` would write, without its figures."""
    run = read_run(folder, summary)
    return run_page(run, cell_intervals(run), read_flips(folder, run.answered)).decode()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    lwf = ["lmmcl.callbacks.lwf.LwF", {"name": "LwF", "weight": 1.0}]
    with_variant(fake_folder(folder, inside=True, callbacks=[lwf]))
    write_run_report(read_run(folder), costs=True)
    return folder


@pytest.fixture(scope="module")
def page(run: Path) -> Reader:
    return Reader((run / "report.html").read_text())


def test_every_section_is_there_for_a_run_that_has_all(page: Reader) -> None:
    sections = ["matrix", "curves", "answers", "flips", "probes", "training", "choices", "making"]
    assert [name for name in page.texts if name] == sections
    assert [link["href"] for link in page.named("a")[1:]] == [f"#{name}" for name in sections]


def test_a_plain_run_has_no_empty_section(tmp_path: Path) -> None:
    fake_folder(tmp_path, stages=1, targets=["species"], held_out=["chart"], n=30)
    (tmp_path / "logs" / "metrics.csv").unlink()
    shown = Reader(page_of(tmp_path))
    assert set(shown.texts) <= {"", "matrix", "curves", "flips", "making"}
    assert "Cost" not in shown.texts["making"]


def test_every_score_stands_in_the_matrix_with_what_a_pointer_tells(run: Path, page: Reader) -> None:
    matrix = Matrix.load(run)
    cells = {str(cell["data-tip"]) for cell in page.named("td") if cell.get("data-tip")}
    for stage in matrix.finals:
        for task, cell in stage.cells.items():
            where = "base model" if stage.index == 0 else f"after {stage.name}"
            found = [tip for tip in cells if tip.startswith(f"{task}, {where}: {cell.score:.1f} [")]
            assert len(found) == 1 and f"{cell.n} examples" in found[0]
            assert ("% could not be read" in found[0]) == (cell.unparsed > 0)
    assert "before WiSEFT" in page.texts["matrix"]


def test_the_four_numbers_have_their_intervals(run: Path, page: Reader) -> None:
    summary = read_run(run).summary
    assert summary is not None
    words = " ".join(page.texts[""])
    for name in ("target_learning", "target_forgetting", "held_out_change", "recovery"):
        estimate = summary[name]
        assert f"{abs(estimate.value):.1f}" in words
        assert f"{abs(estimate.low):.1f}, " in words and f"{abs(estimate.high):.1f}]" in words


def test_what_a_model_says_is_text_and_never_markup(run: Path, page: Reader) -> None:
    text = (run / "report.html").read_text()
    assert NASTY.split(" &")[0] not in text
    assert len(page.named("script")) == 1
    assert any(NASTY in words for words in page.texts["answers"])
    assert any("<script>" in words for words in page.texts["flips"])


def test_nothing_comes_from_outside(run: Path, page: Reader) -> None:
    text = (run / "report.html").read_text()
    assert not re.search(r"""(src|href)=["'](?!#|data:)""", text)
    assert "url(" not in text and "@import" not in text and "http" not in re.sub(r"http-equiv", "", text)
    policy = str(next(meta["content"] for meta in page.named("meta") if "http-equiv" in meta))
    assert policy.startswith("default-src 'none'; img-src data:;") and "unsafe" not in policy
    assert not any("style" in attributes for _, attributes in page.elements)
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)


def test_every_picture_has_words(page: Reader) -> None:
    assert page.named("img") and all(image.get("alt") for image in page.named("img"))
    charts = [one for one in page.named("svg") if one.get("class") != "mk"]
    assert charts and all(one["role"] == "img" and one["aria-label"] for one in charts)


def test_flips_and_sampled_answers_show_pictures_questions_and_causes(page: Reader) -> None:
    images = [str(image["src"])[:22] for image in page.named("img")]
    assert images.count("data:image/jpeg;base64") + images.count("data:image/png;base64,") == len(images) >= 4
    words = page.texts["flips"]
    assert "lost: content" in words and any(word.startswith("How many bars?") for word in words)
    assert any(word.startswith("gained; was ") for word in words), "it is right now"
    assert not any(word.startswith("gained: ") for word in words)


def test_probes_are_no_part_of_the_method(tmp_path: Path) -> None:
    listed = [
        ["lmmcl.callbacks.lwf.LwF", {"name": "LwF", "weight": 1.0}],
        ["lmmcl.callbacks.weight_drift.WeightDrift", {"name": "WeightDrift", "matrices": 4}],
    ]
    fake_folder(tmp_path, stages=1, targets=["species"], held_out=["chart"], n=20, callbacks=listed)
    words = Reader(page_of(tmp_path)).texts
    kicker = next(word for word in words[""] if word.startswith("Recipe"))
    assert kicker.startswith("Recipe full + LwF · seed")
    made = words["making"]
    fights, looks = made.index("Against forgetting"), made.index("Measured and probed by")
    assert fights < made.index("LwF") < looks < made.index("WeightDrift")


def test_a_run_of_one_stage_has_no_worst_stage_and_no_recovery(tmp_path: Path) -> None:
    fake_folder(tmp_path, stages=1, targets=["species"], held_out=["chart", "diagram"], n=30)
    words = Reader(page_of(tmp_path)).texts
    assert "needs two stages" in words[""] and "needs two targets" in words[""]
    assert not any("[0.0, 0.0]" in word for word in words[""])
    chart = held_out_curves(read_run(tmp_path))
    assert chart is not None and not chart.notes


def test_a_last_stage_that_is_the_worst_is_called_so(tmp_path: Path) -> None:
    fake_folder(tmp_path, stages=2, targets=["species", "count"], held_out=["chart"], n=30)
    words = " ".join(Reader(page_of(tmp_path)).texts[""])
    assert "the last stage, count, is the worst of the held-out tasks (" in words
    chart = held_out_curves(read_run(tmp_path))
    assert chart is not None and chart.notes[0].text.startswith("worst ")


def test_the_footer_says_where_figures_and_tables_lie(run: Path) -> None:
    text = (run / "report.html").read_text()
    assert "Figures and tables lie beside this file: figures/ and tables/. Made by" in text


def test_the_cost_is_said_by_the_command_and_kept_out_of_what_fit_writes(run: Path) -> None:
    assert "5.3 min" in " ".join(Reader((run / "report.html").read_text()).texts["making"])
    assert "cost" in {path.stem for path in (run / "tables").iterdir()}
    assert "5.3 min" not in page_of(run)
    assert "cost" not in run_tables(read_run(run), {}, [])


def test_the_same_run_elsewhere_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        fake_folder(tmp_path / name, n=30, inside=True)
    assert page_of(tmp_path / "a") == page_of(tmp_path / "b")
    tables = [run_tables(read_run(tmp_path / name), {}, read_flips(tmp_path / name)) for name in ("a", "b")]
    assert tables[0] == tables[1]


def test_an_unfinished_run_says_how_far_it_came(tmp_path: Path) -> None:
    shown = Reader(page_of(fake_folder(tmp_path, stages=2, n=30)))
    assert "2 of five stages measured, 3 to go" in " ".join(shown.texts[""])
    assert "not yet" in shown.texts["making"]


def test_without_its_answers_a_run_has_no_intervals_and_says_so(tmp_path: Path) -> None:
    fake_folder(tmp_path, stages=1, targets=["species"], held_out=["chart"], n=30)
    summary = read_run(tmp_path).summary
    for path in (tmp_path / "predictions").glob("*/chart.jsonl"):
        path.unlink()
    shown = Reader(page_of(tmp_path, summary))
    assert "no intervals and no flips of chart" in " ".join(shown.texts[""])
    tips = [str(cell["data-tip"]) for cell in shown.named("td") if cell.get("data-tip")]
    assert not any("[" in tip for tip in tips if tip.startswith("chart"))
    assert all("[" in tip for tip in tips if tip.startswith("species"))


def test_tables_hold_every_number(run: Path) -> None:
    def table(name: str) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO((run / "tables" / f"{name}.csv").read_text())))

    data = read_run(run)
    assert len(table("scores")) == sum(len(stage.cells) for stage in data.matrix.stages)
    assert data.summary is not None
    for row in table("numbers"):
        assert float(row["value"]) == data.summary[row["statistic"]].value
    assert len(table("probes")) == sum(len(row.values) for probe in data.probes for row in probe.rows)
    assert {row["chosen"] for row in table("choices")} == {"True", "False"}
    assert len(table("answers")) == 3 * 6
    assert {row["direction"] for row in table("flips")} == {"lost", "gained"}


def test_an_answer_never_becomes_a_formula_of_a_spreadsheet(run: Path) -> None:
    rows = csv.DictReader(io.StringIO((run / "tables" / "flips.csv").read_text()))
    assert "'=1+1" in {row["after"] for row in rows}


def test_every_chart_of_the_page_lies_beside_it_as_png_and_svg(run: Path) -> None:
    charts = [
        "choice_WiSEFT_01-species",
        "curves",
        "matrix",
        "probe_LayerContribution",
        "probe_NumberTokenBias",
    ]
    found = sorted(path.name for path in (run / "figures").iterdir())
    assert found == sorted(f"{name}.{kind}" for name in [*charts, "unreadable"] for kind in ("png", "svg"))
