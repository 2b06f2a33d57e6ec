"""Publishing a state's aggregates, from files that landed to files that may leave."""

import json
import shutil
import stat
from pathlib import Path

import polars as pl
import pytest

from pipelines import publication as publishing
from pipelines.publication import Asked, NothingToPublish, PublicationRefused, publish_state
from pipelines.simulate import simulate
from pipelines.work import Work
from schemas.projections import NeedLevel, TierPlacement
from schemas.publication import PublishedTable, publication
from schemas.reports import ReleasedCell, StateAggregate, StateAggregateCounts
from schemas.contract import broken_rules
from transforms.bands import WIDTHS, band_counts, bands
from warehouse.home import Home
from warehouse.projections import Projections

KEY = ["measure", "district_id", "school_id", "grade"]
WINTER = Asked(window="winter", school_year="2026")
COUNTS = Asked("counts", window="winter", school_year="2026")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("state") / "home").make()
    made = simulate(home.landing, districts=2, students=440, schools=2, seed=3, kinds=("roster", "map_growth"))
    for each in made:
        (home.policies / f"{each.id}.toml").write_text('time_zone = "America/Denver"\n', "utf-8")
    assert not Work(home).run([each.id for each in made]).failed
    return home


@pytest.fixture
def home(loaded: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A copy that publishes one statistic, by grade and sex."""
    shutil.copytree(loaded.root, tmp_path / "home")
    whole = publication()
    need = next(each for each in whole.statistics if each.name == "need")
    few = whole.model_copy(update={"statistics": (need,), "groups": {"sex": whole.groups["sex"]}})
    monkeypatch.setattr(publishing, "publication", lambda: few)
    return Home(tmp_path / "home")


def read(folder: Path, name: str = "state_aggregate") -> pl.DataFrame:
    return pl.read_parquet(folder / f"{name}.parquet")


def recounted(home: Home) -> pl.DataFrame:
    """Tested and in need by school and grade, straight from the projections."""
    stored = Projections(home.projections)
    key = ["district_id", "school_year", "benchmark_window", "subject_key"]
    there = stored.read(TierPlacement).select(*key, "school_id", "grade")
    return (
        stored.read(NeedLevel)
        .filter(pl.col("is_in_need").is_not_null(), pl.col("benchmark_window") == "winter")
        .select(*key, "measure", "is_in_need")
        .join(there, on=key)
        .group_by(KEY)
        .agg(n=pl.len().cast(pl.Int64), y=pl.col("is_in_need").sum().cast(pl.Int64))
        .collect()
    )


def test_counts_are_those_of_the_projections_and_what_is_small_is_withheld(home: Home, tmp_path: Path):
    done = publish_state(home, COUNTS, tmp_path / "out")
    rows = read(done.folder)
    assert broken_rules(rows, StateAggregateCounts).is_empty()
    told = rows.filter(pl.col("geography") == "school", pl.col("grade") != "all", pl.col("group_kind") == "all")
    both = told.join(recounted(home), on=KEY, how="full", coalesce=True)
    assert both.height == told.height == recounted(home).height
    assert both.filter(pl.col("students") != pl.col("n")).is_empty()
    assert both.filter(pl.col("count") != pl.col("y")).is_empty()
    assert both["count"].null_count() and both["count"].count()
    assert rows.filter(pl.col("count").is_between(1, 9) | (pl.col("students") < 10)).is_empty()
    assert rows.filter(pl.col("count") == pl.col("students")).is_empty()
    text = (done.folder / "state_aggregate.csv").read_text("utf-8")
    assert pl.read_csv(text.encode())["count"].null_count() == rows["count"].null_count()


def test_bands_have_no_number_and_hold_the_true_share(home: Home, tmp_path: Path):
    done = publish_state(home, WINTER, tmp_path / "out")
    rows = read(done.folder)
    assert broken_rules(rows, StateAggregate).is_empty()
    assert [name for name, kind in rows.schema.items() if kind != pl.String] == []
    told = rows.filter(pl.col("geography") == "school", pl.col("grade") != "all", pl.col("group_kind") == "all")
    both = told.join(recounted(home), on=KEY).filter(pl.col("share_band").is_not_null())
    ends = band_counts(both["share_band"], both["n"])
    assert both.height and both.select((pl.col("y") >= ends["low"]) & (pl.col("y") <= ends["high"])).to_series().all()
    assert (ends["high"] - ends["low"] >= 2).all()
    assert rows["share_band"].null_count() == rows["students_range"].null_count()


def test_only_the_register_has_the_reasons_and_its_owner_alone_may_read_them(home: Home, tmp_path: Path):
    done = publish_state(home, COUNTS, tmp_path / "out")
    public = {"data_dictionary.csv", "release.json", "state_aggregate.csv", "state_aggregate.parquet"}
    assert {path.name for path in done.folder.iterdir()} == public
    kept = home.reports / "state" / "2026-winter-counts" / "internal.parquet"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert broken_rules(pl.read_parquet(kept), ReleasedCell).is_empty()
    about = json.loads((done.folder / "release.json").read_text("utf-8"))
    assert about["audit"]["need"]["is_passed"]
    assert "small" not in json.dumps(about)


def test_a_margin_that_slipped_through_stops_everything(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    honest = publishing.public_rows

    def leaking(cells: pl.DataFrame, mode):
        rows = honest(cells, mode)
        small = (pl.col("category") == "in_need") & (pl.col("kind") == "count") & pl.col("value").is_between(1, 9)
        first = cells.filter(small).head(1)
        leak = first.select("district_id", "school_id", "grade", "student_group", leaked="value")
        return (
            rows.join(leak, on=["district_id", "school_id", "grade", "student_group"], how="left")
            .with_columns(count=pl.coalesce("leaked", "count"))
            .drop("leaked")
        )

    monkeypatch.setattr(publishing, "public_rows", leaking)
    with pytest.raises(PublicationRefused) as refused:
        publish_state(home, COUNTS, tmp_path / "out")
    assert "statistic in_need" in str(refused.value) and "rule small" in str(refused.value)
    assert "value" not in str(refused.value)
    assert not (tmp_path / "out").exists() and not (home.reports / "state").exists()


def test_a_window_is_released_once_and_later_releases_are_audited_with_it(home: Home, tmp_path: Path):
    publish_state(home, COUNTS, tmp_path / "out")
    with pytest.raises(NothingToPublish, match="frozen"):
        publish_state(home, COUNTS, tmp_path / "again")
    with pytest.raises(PublicationRefused, match="fewer than 10 students"):
        publish_state(home, Asked("counts", window="winter", school_year="2026", is_correction=True), tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_school_by_grade_and_group_cannot_be_declared():
    with pytest.raises(ValueError, match="never published"):
        PublishedTable(name="x", place="school_id", by=("grade", "student_group"))


@pytest.mark.parametrize("n", [10, 15, 16, 31, 64, 99, 300, 457])
def test_a_band_leaves_open_the_counts_that_share_it(n: int):
    y = pl.Series(range(n + 1))
    for width in WIDTHS:
        said = bands(y, pl.repeat(n, n + 1, eager=True), pl.repeat(width, n + 1, eager=True))
        ends = pl.DataFrame({"said": said, "y": y}).with_columns(
            low=pl.col("y").min().over("said"), high=pl.col("y").max().over("said")
        )
        assert band_counts(said, pl.repeat(n, n + 1, eager=True)).equals(ends.select("low", "high"))
