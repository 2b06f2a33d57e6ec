"""The report in a browser: every page kind, every control, three widths, no network, no breach of WCAG A or AA."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest

from pipelines.report.page import class_path
from pipelines.report.reading import Reading
from pipelines.report.site import PAGES
from tests.conftest import BROWSER, Small

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
if TYPE_CHECKING:
    from playwright import sync_api

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed: apt-get install chromium")

WIDTHS = (390, 820, 1280)
RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}}
OPENED = "document.querySelectorAll('details').forEach(each => { each.open = true; })"


@pytest.fixture(scope="module")
def site(small: Small) -> Path:
    return small.site


@pytest.fixture(scope="module")
def reading(small: Small) -> Reading:
    return Reading(small.home, small.district, "2026")


@pytest.fixture(scope="module")
def kinds(reading: Reading) -> list[str]:
    """One page of every kind: the longest, as more of its parts are filled."""
    found: dict[str, tuple[int, str]] = {}
    for page in (page for make in PAGES for page in make(reading)):
        size = len(str(page.context))
        found[page.template] = max(found.get(page.template, (0, "")), (size, page.path))
    return sorted(path for _, path in found.values())


@pytest.fixture
def faults() -> list[str]:
    """What a page should not do: written by ``watched``."""
    return []


@pytest.fixture
def page(browser: "sync_api.Browser", faults: list[str]) -> Iterator["sync_api.Page"]:
    """A tab that notes every console message, error and request that is not a file of the site."""
    tab = browser.new_page()
    tab.set_default_timeout(10_000)
    tab.on(
        "console", lambda each: faults.append(f"console: {each.text}") if each.type in ("error", "warning") else None
    )
    tab.on("pageerror", lambda error: faults.append(f"error: {error}"))
    tab.on("request", lambda each: None if each.url.startswith("file:") else faults.append(f"request: {each.url}"))
    yield tab
    tab.close()


def violations(page: "sync_api.Page") -> list[str]:
    found = axe.Axe().run(page, options={**RULES, "resultTypes": ["violations"]}).response["violations"]
    return [f"{each['id']}: {node['target']}" for each in found for node in each["nodes"][:3]]


def test_pages_hold_at_every_width(page: "sync_api.Page", faults: list[str], site: Path, kinds: list[str]):
    for path in kinds:
        page.goto((site / path).as_uri())
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{path} is {wide} px wide at {width}"
    assert faults == []


def test_no_kind_of_page_breaks_a_rule_of_level_a_or_aa(
    page: "sync_api.Page", faults: list[str], site: Path, kinds: list[str]
):
    page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    for path in kinds:
        page.goto((site / path).as_uri())
        page.evaluate(OPENED)
        assert violations(page) == [], path
        assert page.evaluate("document.documentElement.scrollWidth") <= WIDTHS[0], path
    assert faults == []


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS[1:])
def test_no_kind_of_page_and_no_level_breaks_a_rule_at_other_widths(
    page: "sync_api.Page", faults: list[str], site: Path, reading: Reading, kinds: list[str], width: int
):
    of_level = reading.current.filter("is_primary", pl.col("benchmark_window") == "spring").unique("level")
    page.set_viewport_size({"width": width, "height": 900})
    for path in [*kinds, *map(class_path, of_level["class_id"])]:
        page.goto((site / path).as_uri())
        page.evaluate(OPENED)
        assert violations(page) == [], path
    assert faults == []


def test_a_planted_fault_is_found(page: "sync_api.Page", faults: list[str], site: Path):
    page.goto((site / "index.html").as_uri())
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=\"http://127.0.0.1:9/x.png\"><i>x</i>')")
    page.wait_for_timeout(50)
    assert any("image-alt" in each for each in violations(page))
    assert faults, "a picture from a server is refused by the page's own policy"


def test_everything_on_demand_opens_and_closes(page: "sync_api.Page", faults: list[str], site: Path, kinds: list[str]):
    clicked = 0
    for path in kinds:
        page.goto((site / path).as_uri())
        for summary in page.locator("main > * > summary, main > summary, figure summary").all()[:3]:
            summary.click()
            assert summary.evaluate("each => each.parentElement.open")
            summary.press("Enter")
            assert not summary.evaluate("each => each.parentElement.open")
            clicked += 1
    assert clicked > 5
    assert faults == []


def test_links_lead_from_the_district_to_a_class_and_back(page: "sync_api.Page", faults: list[str], site: Path):
    page.goto((site / "index.html").as_uri())
    page.click("nav >> text=Schools")
    page.click("main table tbody a >> nth=0")
    page.click("table.caterpillar tbody a >> nth=0")
    assert "/classes/" in page.url
    page.click("nav.trail a >> nth=2")
    assert "/schools/" in page.url
    page.click("nav.trail a >> nth=0")
    assert page.url.endswith("index.html")
    assert faults == []


def test_a_word_is_explained_where_it_leads(page: "sync_api.Page", site: Path):
    page.goto((site / "index.html").as_uri())
    page.click("a.term >> nth=0")
    assert page.locator("dt:target").count() == 1


def test_the_keyboard_reaches_the_content_first(page: "sync_api.Page", site: Path):
    page.goto((site / "index.html").as_uri())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".skip").bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    outlines = []
    for _ in range(5):
        page.keyboard.press("Tab")
        outlines.append(page.evaluate("getComputedStyle(document.activeElement).outlineStyle"))
    assert set(outlines) == {"solid"}


def test_one_rendering_of_a_chart_is_shown_and_it_has_words(page: "sync_api.Page", site: Path):
    page.goto((site / "index.html").as_uri())
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        for chart in page.locator("figure").all():
            shown = [each for each in chart.locator("[role=img]").all() if each.is_visible()]
            assert len(shown) == 1
            assert len(shown[0].get_attribute("aria-label") or "") > 40
            assert chart.locator("details table").count() == 1


def test_a_printed_page_has_everything_open_and_no_navigation(page: "sync_api.Page", site: Path, kinds: list[str]):
    path = next(each for each in kinds if each.startswith("classes/"))
    page.goto((site / path).as_uri())
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator("details:not([open])").count() == 0
    assert not page.locator("header nav").is_visible()
    assert page.locator("details table").first.is_visible()
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0
