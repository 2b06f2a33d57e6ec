"""Districts too small to fit a prior stand on that of their home, whatever the order in which they are brought up."""

import shutil
from pathlib import Path

import polars as pl
import pytest

from pipelines.loading import Loader, Sources
from pipelines.refresh import refresh
from pipelines.simulate import corrected_school_file, simulate
from pipelines.verify import verify_home
from schemas.projections import ClassDecision
from tests.homes import POLICY, SECRET, Clock, read_tables
from warehouse.home import Home
from warehouse.log import Log
from warehouse.projections import Projections
from warehouse.vault import derived_keys

DISTRICTS = ("d001", "d002", "d003", "d004")
HOME = {"districts": 4, "students": 2400, "schools": 2}
"""In no grade has a district three schools, and in every grade the home has eight."""


def load(home: Home) -> None:
    loader = Loader(home, Sources(clock=Clock(), keys=derived_keys(SECRET), secret=SECRET))
    for district in home.districts():
        loader.load(district)
    loader.vault.close()


def bring_up(home: Home, *groups: tuple[str, ...]) -> list[list[tuple[str, str]]]:
    projections = Projections(home.projections)
    policies = {each: home.policy(each) for each in DISTRICTS}
    return [refresh(Log(home), projections, {each: policies[each] for each in group}).updated for group in groups]


def decisions(home: Home) -> pl.DataFrame:
    rows = Projections(home.projections).read(ClassDecision)
    return rows.sort("district_id", "class_id", "benchmark_window").collect()


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("home")).make()
    simulate(home.landing, kinds=("roster", "map_growth"), **HOME)
    for district in DISTRICTS:
        (home.policies / f"{district}.toml").write_text(POLICY)
    secret = home.vault / "secret"
    secret.write_text(SECRET.hex())
    secret.chmod(0o600)
    load(home)
    return home


@pytest.fixture(scope="module")
def together(loaded: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = copied(loaded, tmp_path_factory.mktemp("together"))
    bring_up(home, DISTRICTS)
    return home


def copied(home: Home, folder: Path) -> Home:
    shutil.copytree(home.root, folder / "home")
    return Home(folder / "home")


def test_small_districts_stand_on_the_prior_of_their_home(together: Home):
    regular = decisions(together).filter("is_evaluable", pl.col("section_type") == "regular")
    assert set(regular["prior_from"]) == {"home"}
    assert set(regular["prior"]) == {"two_level"}
    parameters = regular.group_by("school_year", "benchmark_window", "measure", "grade").agg(
        pl.col("prior_mean").n_unique(), pl.col("district_id").n_unique()
    )
    assert parameters["prior_mean"].max() == 1
    assert parameters["district_id"].min() == 4


@pytest.mark.slow
def test_one_by_one_and_together_give_the_same(loaded: Home, together: Home, tmp_path: Path):
    home = copied(loaded, tmp_path)
    updated = bring_up(home, *((each,) for each in reversed(DISTRICTS)))
    assert updated[-1] == [(each, "2026") for each in DISTRICTS]  # the last one changes what all borrow
    ours, theirs = (read_tables(Projections(each.projections)) for each in (home, together))
    assert all(ours[name].equals(theirs[name]) for name in theirs)


def test_a_correction_moves_the_decisions_of_those_who_borrow_and_nothing_else_of_theirs(
    together: Home, tmp_path: Path
):
    home = copied(together, tmp_path)
    before = read_tables(Projections(home.projections))
    assert bring_up(home, DISTRICTS) == [[]]
    simulate(tmp_path / "again", kinds=("map_growth",), **HOME)
    corrected_school_file(tmp_path / "again" / "d001", home.landing / "d001" / "corrected.csv", share=0.3)
    load(home)
    assert bring_up(home, ("d001",)) == [[(each, "2026") for each in DISTRICTS]]
    after = read_tables(Projections(home.projections))
    others = pl.col("district_id") != "d001"
    changed = {name for name in after if not after[name].filter(others).equals(before[name].filter(others))}
    assert changed == {"class_decision"}
    told = after["class_decision"].filter(others)["input_id"], before["class_decision"].filter(others)["input_id"]
    assert not set(told[0]) & set(told[1])
    assert bring_up(home, DISTRICTS) == [[]]


@pytest.mark.slow
def test_one_district_is_verified_against_the_prior_it_borrowed(together: Home):
    results = verify_home(together, ["d002"])
    assert [each["told"] for each in results if not each["is_passed"]] == []
