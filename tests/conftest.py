"""Districts that were loaded once and a browser, for tests that only look."""

import gc
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import polars as pl
import pytest
from filelock import FileLock

from warehouse.home import Home

if TYPE_CHECKING:
    from playwright.sync_api import Browser

T = TypeVar("T")
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LONGEST = (
    "test_pipelines",
    "test_equality",
    "test_report_browser",
    "test_corrections",
    "test_cli",
    "test_cycles",
    "test_withdrawals",
    "test_loading",
    "test_layouts",
    "test_publication",
    "test_district_files",
    "test_lending",
    "test_bitemporal",
    "test_as_of",
    "test_publish",
    "test_report",
    "test_kills",
    "test_erasure",
    "test_real_samples",
)
"""Modules to begin with: begun last, one of them would run alone while the other process waits.

Nor do two stand together that ask for the same district: while one process makes it the other would wait.
"""
CORRECTED = "map_growth/AssessmentResults_Spring_corrected.csv"
RENAMED = "map_growth/renamed.csv"

gc.set_threshold(50_000, 20, 100)  # half a million objects are modules and stay: to look through them takes long


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest modules first, as listed; all others stay in their order."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


@dataclass(frozen=True)
class Lived:
    """A home after a first load and a run with a corrected file, a file that is held and a parked row."""

    home: Home
    district: str
    landed: Path
    """The files as they landed, by the names the ledger has."""
    changed: pl.DataFrame
    """Tests that the corrected file changed."""
    published: dict[str, int]
    """Rows of every table of the warehouse."""

    def line(self, file: str, number: int) -> str:
        """A physical line of a file as it landed, the first being 1."""
        name, _, member = file.partition("!")
        path = self.landed / name
        if member:
            with zipfile.ZipFile(path) as archive:
                return archive.read(member).decode("utf-8-sig").splitlines()[number - 1]
        return path.read_text("utf-8-sig").splitlines()[number - 1]


@dataclass(frozen=True)
class Small:
    """A home with a school and a half, loaded once, with a file that is held; and the site made of it."""

    home: Home
    district: str
    site: Path


@pytest.fixture(scope="session")
def lived(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Lived:
    """Made by the first process of the session that asks, and read by all."""
    return _once("lived", _live, tmp_path_factory, worker_id)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Small:
    """The same, for tests that need every kind of page and not many rows."""
    return _once("small", _settle, tmp_path_factory, worker_id)


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    """One of each process."""
    if BROWSER is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install '.[dev]'")
    with sync_api.sync_playwright() as play:
        found = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        yield found
        found.close()


def _once(name: str, make: Callable[[Path], T], folders: pytest.TempPathFactory, worker: str) -> T:
    own = folders.getbasetemp()
    shared = own if worker == "master" else own.parent
    made = shared / f"{name}.pickle"
    with FileLock(shared / f"{name}.lock"):
        if not made.exists():
            made.write_bytes(pickle.dumps(make(shared / name)))
    found: T = pickle.loads(made.read_bytes())
    return found


def _live(folder: Path) -> Lived:
    # here, because every test waits for what this file imports
    from pipelines.demo import POLICY
    from pipelines.loading import Loader
    from pipelines.simulate import corrected_school_file, simulate
    from pipelines.work import Work

    folder.mkdir()
    home = Home(folder / "home")
    home.make()
    kinds = ("roster", "map_growth", "star", "fastbridge", "cycles")
    (made,) = simulate(home.landing, students=600, seed=4, kinds=kinds)
    district, landing = made.id, made.path
    (home.policies / f"{district}.toml").write_text(POLICY, "utf-8")
    _pack(landing / "star" / "SM_v2.csv")
    _park(landing / "fastbridge" / "aMath.csv")
    later = folder / "corrected.csv"
    changed = corrected_school_file(landing, later, seed=3)
    renamed = later.read_text("utf-8").replace("TestRITScore", "TestRITScores", 1)
    shutil.copytree(landing, folder / "landed")
    Loader(home).load(district)
    for root in (landing, folder / "landed"):
        shutil.copy2(later, root / CORRECTED)
        (root / RENAMED).write_text(renamed, "utf-8")
    published = Work(home).run([district]).published
    return Lived(home, district, folder / "landed", changed, published)


def _settle(folder: Path) -> Small:
    from pipelines.demo import POLICY
    from pipelines.report.site import build_report
    from pipelines.simulate import simulate
    from pipelines.work import Work

    folder.mkdir()
    home = Home(folder / "home")
    home.make()
    (made,) = simulate(home.landing, students=160, schools=2, seed=4, kinds=("roster", "map_growth", "cycles"))
    (home.policies / f"{made.id}.toml").write_text(POLICY, "utf-8")
    tests = min((made.path / "map_growth").glob("*Spring*.csv"))
    renamed = tests.read_text("utf-8").replace("TestRITScore", "TestRITScores", 1)
    (made.path / RENAMED).write_text(renamed, "utf-8")
    Work(home).run([made.id])
    return Small(home, made.id, build_report(home, made.id).folder)


@pytest.fixture
def spoilt(small: Small, tmp_path: Path) -> Home:
    """A copy of the small home, to be spoilt."""
    return _copied(small.home, tmp_path)


@pytest.fixture
def tampered(lived: Lived, tmp_path: Path) -> Home:
    """A copy of the home, to be spoilt."""
    return _copied(lived.home, tmp_path)


def _copied(home: Home, folder: Path) -> Home:
    """The home without what SQLite keeps for whoever reads the vault just now."""
    shutil.copytree(home.root, folder / "home", ignore=shutil.ignore_patterns("*-shm", "*-wal"))
    return Home(folder / "home")


def _pack(path: Path) -> None:
    with zipfile.ZipFile(path.with_suffix(".zip"), "w") as archive:
        archive.write(path, path.name)
    path.unlink()


def _park(path: Path) -> None:
    """One more row, of a student whom no roster has."""
    header, first, *_ = path.read_text("utf-8").splitlines()
    cells = zip(header.split(","), first.split(","), strict=True)
    row = ",".join(f"{cell}999" if name.endswith("ID") else cell for name, cell in cells)
    written = path.stat().st_mtime
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{row}\n")
    os.utime(path, (written, written))
