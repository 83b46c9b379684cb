"""The pages in a real browser: no complaint, no address, sorting, the theme, and no sideways scrolling on a phone."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lmmcl.evaluation.flipped_examples import read_flips
from lmmcl.report.matrix_view import cell_intervals
from lmmcl.report.run_data import read_run
from lmmcl.report.run_page import run_page
from lmmcl.report.runs_data import read_runs
from lmmcl.report.runs_page import runs_page
from tests.report.chromium import FOUND, Chromium
from tests.report.fake_folder import fake_folder

pytestmark = pytest.mark.skipif(FOUND is None, reason="Chromium is not installed; apt-get install chromium")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("profile")) as chromium:
        yield chromium


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("pages")
    paths = [fake_folder(root / like, like, n=30, inside=like == "full") for like in ("full", "sa_proj")]
    run = read_run(paths[0])
    pages = {"run": root / "run.html", "runs": root / "runs.html"}
    pages["run"].write_bytes(run_page(run, cell_intervals(run), read_flips(paths[0])))
    few = fake_folder(root / "few", held_out=[], targets=["species", "count"], stages=2, n=20)
    one = fake_folder(root / "one", held_out=["chart", "scene"], targets=["species"], stages=1, n=20)
    for name, path in (("few", few), ("one", one)):
        pages[name] = root / f"{name}.html"
        pages[name].write_bytes(run_page(read_run(path), {}, []))
    pages["runs"].write_bytes(runs_page(read_runs(paths), pages["runs"], ""))
    return pages


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("kind", ["run", "runs"])
def test_a_page_opens_without_complaint_and_fits(
    browser: Chromium, pages: dict[str, Path], kind: str, width: int, dark: bool
) -> None:
    assert browser.open(pages[kind], width, dark=dark) == []
    assert browser.run("document.documentElement.scrollWidth") <= width
    light = browser.run("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0] > 128")
    assert light is not dark


@pytest.mark.parametrize("width", [390, 800, 1280])
@pytest.mark.parametrize("kind", ["run", "few", "one"])
def test_the_numbers_fill_their_box(browser: Chromium, pages: dict[str, Path], kind: str, width: int) -> None:
    browser.open(pages[kind], width)
    left = browser.run(
        "(() => { const area = e => e.clientWidth * e.clientHeight, box = document.querySelector('.cards');"
        "return 1 - [...box.children].map(area).reduce((a, b) => a + b) / area(box) })()"
    )
    assert left < 0.02, "its ground shows as lines between the numbers only"


def test_the_policy_stops_a_script_that_is_not_ours(
    browser: Chromium, pages: dict[str, Path], tmp_path: Path
) -> None:
    planted = tmp_path / "planted.html"
    text = pages["run"].read_text()
    planted.write_text(
        text.replace("</main>", "<script>window.planted = 1</script><img src='http://localhost:9/x'></main>")
    )
    complaints = browser.open(planted)
    assert len([one for one in complaints if "Content Security Policy" in one]) >= 2
    assert browser.run("window.planted") is None


def test_a_click_and_the_keyboard_sort_the_table(browser: Chromium, pages: dict[str, Path]) -> None:
    browser.open(pages["runs"])
    column = (
        "[...document.querySelectorAll('table.ways tbody tr')].map(row => Number(row.cells[2].dataset.key))"
    )
    head = "document.querySelectorAll('table.ways thead th')[2]"
    browser.run(f"{head}.querySelector('button').click()")
    down = browser.run(column)
    assert (
        down == sorted(down, reverse=True)
        and browser.run(f"{head}.getAttribute('aria-sort')") == "descending"
    )
    browser.run(f"{head}.querySelector('button').focus()")
    browser.press("Enter")
    assert (
        browser.run(column) == down[::-1] and browser.run(f"{head}.getAttribute('aria-sort')") == "ascending"
    )
    browser.run("document.querySelectorAll('table.ways thead th')[0].querySelector('button').click()")
    assert browser.run(f"{head}.getAttribute('aria-sort')") is None
    names = browser.run(
        "[...document.querySelectorAll('table.ways tbody th')].map(cell => cell.textContent.trim())"
    )
    assert names == sorted(names) == ["full", "sa_proj"]


def test_a_cell_tells_its_interval_to_pointer_and_keyboard(browser: Chromium, pages: dict[str, Path]) -> None:
    browser.open(pages["run"])
    tip = "document.getElementById('tip')"
    assert browser.run(f"{tip}.hidden") is True
    browser.run("document.querySelector('table.matrix td[data-tip]').focus()")
    first = browser.run(f"{tip}.textContent")
    assert browser.run(f"{tip}.hidden") is False and first.startswith("species, base model: ")
    browser.press("ArrowDown")
    browser.press("ArrowRight")
    assert browser.run(f"{tip}.textContent").startswith("count, after 01-species: ")
    browser.press("Escape")
    assert browser.run(f"{tip}.hidden") is True


def test_the_toggle_goes_round_the_themes(browser: Chromium, pages: dict[str, Path]) -> None:
    browser.open(pages["run"])
    seen = []
    for _ in range(3):
        browser.run("document.getElementById('theme').click()")
        seen.append(
            browser.run(
                "[document.documentElement.dataset.theme ?? '', getComputedStyle(document.body).backgroundColor]"
            )
        )
    assert [theme for theme, _ in seen] == ["light", "dark", ""]
    assert seen[0][1] == seen[2][1] != seen[1][1]
