"""The HTML report in a real browser: no console message, nothing fetched, every figure drawn, text escaped."""

from __future__ import annotations

import re
import shutil

import pytest

from sw_stack.comparison.cell import Results
from sw_stack.reports.figures import DRAWINGS
from sw_stack.reports.html import html, mean_rows
from sw_stack.reports.style import render
from verification.bench.comparison_results import made_up_results


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium, Debian's."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1280,900",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page() -> str:
    """The report of the made-up results; drawing it takes most of these tests' time."""
    return html(made_up_results(), "Made up")


def test_the_report_opens_clean_with_every_figure(browser, page, tmp_path):
    """All drawings are on the page with ink in them, the console is silent and no network request is made."""
    path = tmp_path / "report.html"
    path.write_text(page)
    browser.get(path.as_uri())
    assert browser.get_log("browser") == []
    requests = re.findall(r'"url\\?":\\?"(http[^"\\]*)', str(browser.get_log("performance")))
    assert requests == []
    sizes = browser.execute_script(
        "return Object.fromEntries([...document.querySelectorAll('figure')].map(f => [f.dataset.figure,"
        " [...f.querySelectorAll('path, use')].filter(p => { const b = p.getBoundingClientRect();"
        " return b.width > 1 && b.height > 1; }).length]))"
    )
    assert set(sizes) == {drawing.name for drawing in DRAWINGS}
    assert min(sizes.values()) > 10, sizes
    assert browser.execute_script("return document.body.scrollWidth <= window.innerWidth + 20")


def test_the_browser_check_sees_an_error(browser, tmp_path):
    """A page with a script error and a missing picture fails the same checks."""
    path = tmp_path / "broken.html"
    path.write_text("<script>nothing.here()</script><img src='http://127.0.0.1:9/x.png'>")
    browser.get(path.as_uri())
    assert any("nothing is not defined" in entry["message"] for entry in browser.get_log("browser"))


def test_text_in_results_cannot_become_markup(page):
    """The sample with a script element is shown, not run."""
    assert "<script" not in page and "&lt;script&gt;alert(1)" in page


def test_the_table_of_means_shows_the_hand_worked_ratios(page):
    """4.00 for the proposed machine, all and without assumed cells."""
    rows = {row["machine"]: row for row in mean_rows(made_up_results())}
    assert rows["elmoe3d-8gb"]["speed"].all.geometric == pytest.approx(4)
    page = re.sub(r"\s+", " ", page)
    assert "<td>elmoe3d-8gb</td><td>4.00 <small>(4.00)</small> / 4.00</td>" in page


def test_drawings_are_left_out_where_there_is_nothing_to_show():
    """Without notes: no crossover, no sensitivity, no roofs; the page is still whole."""
    whole = made_up_results()
    bare = Results(whole.provenance, whole.cells)
    drawn = {drawing.name for drawing in DRAWINGS if drawing.draw(bare) is not None}
    assert drawn == {d.name for d in DRAWINGS} - {"crossover", "sensitivity", "roofline"}
    assert "</html>" in html(bare, "Bare")


@pytest.mark.parametrize("kind", ["svg", "png", "pdf"])
def test_a_figure_is_the_same_bytes_twice(kind):
    """A rerun changes nothing, so that reports can be compared."""
    draw = DRAWINGS[0].draw
    assert render(draw(made_up_results()), kind) == render(draw(made_up_results()), kind)
