"""A district that was loaded once, for tests that only look at it."""

import os
import pickle
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
from filelock import FileLock

from warehouse.home import Home

CORRECTED = "map_growth/AssessmentResults_Spring_corrected.csv"
RENAMED = "map_growth/renamed.csv"


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


@pytest.fixture(scope="session")
def lived(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Lived:
    """Made by the first process of the session that asks, and read by all."""
    own = tmp_path_factory.getbasetemp()
    shared = own if worker_id == "master" else own.parent
    made = shared / "lived.pickle"
    with FileLock(shared / "lived.lock"):
        if not made.exists():
            made.write_bytes(pickle.dumps(_live(shared / "lived")))
    return pickle.loads(made.read_bytes())


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


@pytest.fixture
def tampered(lived: Lived, tmp_path: Path) -> Home:
    """A copy of the home, to be spoilt; without what SQLite keeps for whoever reads the vault just now."""
    shutil.copytree(lived.home.root, tmp_path / "home", ignore=shutil.ignore_patterns("*-shm", "*-wal"))
    return Home(tmp_path / "home")


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
