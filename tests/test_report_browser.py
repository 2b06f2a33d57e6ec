"""The report in a browser: every page kind, every control, three widths, no network, no breach of WCAG A or AA."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.report.page import class_path, school_path
from pipelines.report.site import build_report
from tests.conftest import Lived
from warehouse.publish import ask

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install '.[dev]'")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed: apt-get install chromium")

WIDTHS = (390, 820, 1280)
RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}}
KINDS_OF_LEVEL = ("SYSTEM", "LOW_COVERAGE")


@pytest.fixture(scope="module")
def site(lived: Lived, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_report(lived.home, lived.district, out=tmp_path_factory.mktemp("site")).folder


@pytest.fixture(scope="module")
def kinds(lived: Lived, site: Path) -> list[str]:
    """One page of every kind: those at the top of the site, one of each folder, and a class of each level."""
    levels = ask(
        lived.home.warehouse,
        "select level, min(class_id) as class_id, min(school_id) as school_id from marts.classroom_flag"
        " where benchmark_window = 'spring' group by 1 order by 1",
    )
    assert levels is not None
    found = [path.name for path in sorted(site.glob("*.html"))]
    found += [f"{folder.name}/{min(folder.iterdir()).name}" for folder in sorted(site.iterdir()) if folder.is_dir()]
    asked = levels.filter(levels["level"].is_in(KINDS_OF_LEVEL))
    found += [class_path(each) for each in asked["class_id"]]
    found += [school_path(asked["school_id"][0]), "schools/index.html"]
    return sorted(set(found))


@pytest.fixture(scope="module")
def browser() -> Iterator["sync_api.Browser"]:
    with sync_api.sync_playwright() as play:
        found = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        yield found
        found.close()


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


@pytest.mark.parametrize("width", [WIDTHS[0], WIDTHS[-1]])
def test_no_page_breaks_a_rule_of_level_a_or_aa(
    page: "sync_api.Page", faults: list[str], site: Path, kinds: list[str], width: int
):
    page.set_viewport_size({"width": width, "height": 900})
    for path in kinds if width == WIDTHS[0] else kinds[:1] + kinds[-2:]:
        page.goto((site / path).as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
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
        for summary in page.locator("main > * > summary, main > summary, figure summary").all()[:6]:
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
