"""The pictures of README and docs: `make pictures` takes them of the demo district, and each is small and there."""

import os
import re
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING

import pytest

from pipelines.report.page import class_path
from pipelines.report.reading import Reading
from pipelines.report.site import build_report
from warehouse.home import Home

if TYPE_CHECKING:
    from playwright import sync_api

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures"
DEMO = os.environ.get("TIERLINE_PICTURES")
"""Home of the demo district; pictures are taken only where it is named."""
MOST_BYTES = 200_000
STAGES = ("exports", "events", "projections", "marts", "reports")
LIST_ENDS = 540
WIDE = {"width": 1100, "height": 1000}
taken = pytest.mark.skipif(DEMO is None, reason="pictures are taken by: make pictures")
shown = re.compile(r"!\[[^\]]+\]\(([^)]+\.png)\)")


@pytest.fixture
def page(browser: "sync_api.Browser") -> "Iterator[sync_api.Page]":
    tab = browser.new_page(viewport=WIDE)  # type: ignore[arg-type]
    yield tab
    tab.close()


@taken
def test_pictures_of_the_report(page: "sync_api.Page", tmp_path: Path):
    home = Home(Path(str(DEMO)))
    (district,) = home.districts()
    built = build_report(home, district, out=tmp_path)
    reading = Reading(home, district, "2026")
    latest = reading.current.filter("is_primary", benchmark_window=reading.windows[-1])
    found = latest.filter(level="CLASSROOM", attention="act").sort("class_id")["class_id"][0]
    for name, path in (("district", "index.html"), ("class", class_path(found))):
        page.goto((built.folder / path).as_uri())
        picture = PICTURES / f"report-{name}.png"
        page.screenshot(path=picture)
        assert picture.stat().st_size < MOST_BYTES


@taken
def test_a_picture_of_the_asset_graph(page: "sync_api.Page"):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "pipelines.cli", "ui", "--home", str(DEMO), "--port", str(port)]
    ui = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(f"http://127.0.0.1:{port}/server_info")
        page.set_viewport_size({"width": 2000, "height": 900})
        page.goto(f"http://127.0.0.1:{port}/asset-groups")
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(8_000)  # the graph is laid out by a worker and then asks for states; nothing announces it
        page.screenshot(path=PICTURES / "graph.png", clip=_around(page, STAGES))
    finally:
        ui.terminate()
        ui.wait(30)
    assert (PICTURES / "graph.png").stat().st_size < MOST_BYTES


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_every_picture_of_a_page_is_there_and_small(page: str):
    found = [(ROOT / page).parent / each for each in shown.findall((ROOT / page).read_text("utf-8"))]
    assert {each.name for each in found} == {"report-district.png", "graph.png"}
    assert all(0 < each.stat().st_size < MOST_BYTES for each in found)


def _around(page: "sync_api.Page", stages: Sequence[str]) -> dict[str, float]:
    """The part of the window that holds the stages of the graph, right of the list that names them too."""
    boxes = [
        box for stage in stages for each in page.get_by_text(stage, exact=True).all() if (box := each.bounding_box())
    ]
    drawn = [box for box in boxes if box["x"] > LIST_ENDS]
    left, top = (min(box[name] for box in drawn) - 40 for name in ("x", "y"))
    return {"x": left, "y": top, "width": max(box["x"] for box in drawn) + 230 - left, "height": 210}


def _wait_for(address: str) -> None:
    until = monotonic() + 180
    while True:
        try:
            urllib.request.urlopen(address, timeout=5)
            return
        except OSError:
            if monotonic() > until:
                raise
            sleep(1)
