"""Districts too small to fit a prior stand on that of their home, whatever the order in which they are brought up."""

import shutil
from pathlib import Path

import polars as pl
import pytest

from pipelines.lending import STANDS_ON, lend
from pipelines.loading import Loader, Sources
from pipelines.refresh import refresh
from pipelines.simulate import corrected_school_file, simulate
from pipelines.verify import verify_home
from schemas.projections import PROJECTIONS, ClassDecision
from tests.homes import POLICY, SECRET, Clock, read_tables
from warehouse.home import Home
from warehouse.log import Log
from warehouse.projections import Projections
from warehouse.vault import derived_keys

DISTRICTS = ("d001", "d002", "d003", "d004")
HOME = {"districts": 4, "students": 1600, "schools": 2}
"""In no grade has a district three schools, and in every grade the home has eight."""


def new_home(root: Path, districts: tuple[str, ...]) -> Home:
    home = Home(root).make()
    for district in districts:
        (home.policies / f"{district}.toml").write_text(POLICY)
    secret = home.vault / "secret"
    secret.write_text(SECRET.hex())
    secret.chmod(0o600)
    return home


def load(home: Home) -> None:
    loader = Loader(home, Sources(clock=Clock(), keys=derived_keys(SECRET), secret=SECRET))
    for district in home.districts():
        loader.load(district)
    loader.vault.close()


def bring_up(home: Home, *groups: tuple[str, ...]) -> list[list[tuple[str, str]]]:
    projections = Projections(home.projections)
    policies = {each: home.policy(each) for each in home.districts()}
    return [refresh(Log(home), projections, {each: policies[each] for each in group}).updated for group in groups]


def decisions(home: Home) -> pl.DataFrame:
    rows = Projections(home.projections).read(ClassDecision)
    return rows.sort("district_id", "class_id", "benchmark_window").collect()


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = new_home(tmp_path_factory.mktemp("home"), DISTRICTS)
    simulate(home.landing, kinds=("roster", "map_growth"), **HOME)
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


@pytest.mark.slow
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


def add_year(home: Home, year: str, of: Home) -> None:
    """The tables of ``of`` as those of another school year, decided before anything was taken from elsewhere.

    The decisions are all wrong, so that whoever reads them too early is found out.
    """
    source, target = Projections(of.projections), Projections(home.projections)
    for contract in PROJECTIONS:
        rows = source.read(contract).collect().with_columns(school_year=pl.lit(year))
        if contract is ClassDecision:
            rows = rows.with_columns(level=pl.lit("SYSTEM"), reason=pl.lit("grade_above"))
        target.replace(contract, rows, [(each, year) for each in DISTRICTS])
    states = source.partitions.scan().filter(pl.col("projection") != STANDS_ON)
    known = target.partitions.scan().filter(pl.col("school_year") != year)
    both = pl.concat([known, states.with_columns(school_year=pl.lit(year))]).collect()
    target.partitions.replace(both, [(each,) for each in DISTRICTS])


@pytest.mark.slow
@pytest.mark.parametrize("years", [("2027", "2026"), pytest.param(("2026", "2027"), marks=pytest.mark.slow)])
def test_what_was_borrowed_in_one_year_is_told_to_the_next_in_any_order(
    together: Home, tmp_path: Path, years: tuple[str, str]
):
    told = []
    for name, groups in {"at_once": [years], "by_and_by": [(each,) for each in years]}.items():
        home = Home(tmp_path / name).make()
        projections = Projections(home.projections)
        policies = {each: together.policy(each) for each in DISTRICTS}
        for group in groups:
            for year in group:
                add_year(home, year, of=together)
            finished = lend(
                Log(together), projections, projections, {each: together.policy(each) for each in DISTRICTS}
            )
            assert {year for _, year in finished} >= set(group)
        assert lend(Log(together), projections, projections, policies) == []
        told.append(decisions(home).sort("school_year", "district_id", "class_id", "benchmark_window"))
    assert told[0].equals(told[1])
    known = told[0].group_by("school_year").agg(pl.col("is_grade_persistent").is_not_null().any()).sort("school_year")
    assert known.rows() == [("2026", False), ("2027", True)]
    assert set(told[0].filter("is_evaluable", pl.col("section_type") == "regular")["prior_from"]) == {"home"}


@pytest.mark.slow
def test_one_district_is_verified_against_the_prior_it_borrowed(together: Home):
    results = verify_home(together, ["d002"])
    assert [each["told"] for each in results if not each["is_passed"]] == []
