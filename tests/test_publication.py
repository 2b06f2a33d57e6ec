"""Publishing a state's aggregates, from files that landed to files that may leave."""

import json
import shutil
import stat
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from typer.testing import CliRunner

from pipelines import publication as publishing
from pipelines.cli import app
from pipelines.definitions import defs
from pipelines.publication import Asked, NothingToPublish, PublicationRefused, publish_state
from pipelines.publication_asset import PUBLISH_STATE
from pipelines.published_audit import UnreadableSet, audit_files
from pipelines.simulate import simulate
from pipelines.work import Work
from schemas.contract import broken_rules
from schemas.projections import NeedLevel, TierPlacement
from schemas.publication import PublishedTable, publication
from schemas.reports import ReleasedCell, StateAggregate, StateAggregateCounts
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
        publish_state(
            home, Asked("counts", window="winter", school_year="2026", is_correction=True), tmp_path / "again"
        )
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


def moved(students: int, cells: int):
    """The true counts with so many more tested students in the largest cells of grades and schools."""
    honest = publishing._counts

    def counted(*known):
        rows = honest(*known)["need"].sort("tested", descending=True)
        more = pl.when(pl.int_range(pl.len()) < cells).then(students).otherwise(0)
        return {"need": rows.with_columns(pl.col("tested", "in_need") + more)}

    return counted


def again(home: Home, out: Path):
    return publish_state(home, Asked("counts", window="winter", school_year="2026", is_correction=True), out)


@pytest.mark.slow
def test_a_large_correction_is_released_beside_the_first(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    publish_state(home, COUNTS, tmp_path / "out")
    monkeypatch.setattr(publishing, "_counts", moved(40, 1))
    done = again(home, tmp_path / "out")
    assert done.about["release_id"] == "2026-winter-counts-2" and done.about["earlier_releases"] == 1
    assert audit_files(sorted((home.reports / "state").iterdir()), None).findings.is_empty()


@pytest.mark.slow
def test_two_releases_may_not_differ_by_a_few_students(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    publish_state(home, COUNTS, tmp_path / "out")
    monkeypatch.setattr(publishing, "_counts", moved(6, 4))
    with pytest.raises(PublicationRefused, match="rule difference"):
        again(home, tmp_path / "again")
    assert not (tmp_path / "again").exists()


DESCRIBED = """
counts = ["passed"]
students = "tested"
tables = [{ by = ["school", "grade"] }]
totals = { school = "All", grade = "All" }
withheld = ["s"]
"""
SET = """school,grade,tested,passed
North,3,40,25
North,4,42,s
North,All,82,29
South,3,50,30
South,4,51,31
South,All,101,61
All,3,90,55
All,4,93,35
All,All,183,90
"""


def test_a_cell_that_one_subtraction_gives_back_is_found_in_anybodys_table(tmp_path: Path):
    (tmp_path / "set.csv").write_text(SET, "utf-8")
    (tmp_path / "about.toml").write_text(DESCRIBED, "utf-8")
    found = audit_files([tmp_path / "set.csv"], tmp_path / "about.toml").findings
    known = found.filter(pl.col("rule") == "known", pl.col("statistic") == "passed")
    assert known.select("school", "grade").rows() == [("North", "4")]
    result = CliRunner().invoke(app, ["audit", str(tmp_path / "set.csv"), "--describe", str(tmp_path / "about.toml")])
    assert result.exit_code == 1 and "school North, grade 4, statistic passed, rule known" in result.output
    (tmp_path / "odd.csv").write_text(SET.replace("25", "Quixote"), "utf-8")
    with pytest.raises(UnreadableSet) as told:
        audit_files([tmp_path / "odd.csv"], tmp_path / "about.toml")
    assert "passed" in str(told.value) and "Quixote" not in str(told.value)


NYC = Path(__file__).resolve().parents[2] / "shared" / "samples" / "nyc_math_suppressed"
NYC_COLUMNS = """
counts = ["Level 1 #", "Level 2 #", "Level 3 #", "Level 4 #"]
students = "Number Tested"
apart = ["Year", "Category", "DBN"]
tables = [{ by = ["Grade"] }]
totals = { Grade = "All Grades" }
withheld = ["s"]
min_category = 6
"""


@pytest.mark.skipif(not NYC.exists(), reason=f"{NYC.name} is not here")
def test_the_recoverable_cells_of_a_published_file_are_found(tmp_path: Path):
    file = NYC / "math_test_results_staten_island.csv.gz"
    (tmp_path / "nyc.toml").write_text(NYC_COLUMNS, "utf-8")
    found = audit_files([file], tmp_path / "nyc.toml").findings.filter(pl.col("rule") == "known")
    rows = pl.read_csv(file, infer_schema=False)
    place, hidden = ["DBN", "Year", "Category"], pl.col("Level 1 #") == "s"
    totals = rows.filter(pl.col("Grade") == "All Grades", ~hidden).select(place)
    alone = rows.filter(hidden, pl.col("Grade") != "All Grades").filter(pl.len().over(place) == 1)
    alone = alone.join(totals, on=place)
    assert alone.height
    assert set(found.select(*place, "Grade").unique().rows()) >= set(alone.select(*place, "Grade").rows())
    assert found.height >= 4 * alone.height


def test_a_second_mode_that_the_audit_refuses_is_told_why(home: Home, tmp_path: Path):
    publish_state(home, WINTER, tmp_path / "out")
    with pytest.raises(PublicationRefused, match=r"public in bands already.*one mode") as refused:
        publish_state(home, COUNTS, tmp_path / "counts")
    assert "rule narrow" in str(refused.value)
    assert not (tmp_path / "counts").exists()


@pytest.mark.parametrize("mode", ["counts", "bands"])
def test_public_files_are_audited_as_a_stranger_reads_them(
    home: Home, tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
):
    by_grade = publishing.publication().model_copy(update={"groups": {}})
    monkeypatch.setattr(publishing, "publication", lambda: by_grade)
    done = publish_state(home, Asked(mode, window="winter", school_year="2026"), tmp_path / "out")
    looked = audit_files([done.folder], None)
    assert looked.cells and "small" not in set(looked.findings["rule"])
    assert "contradiction" not in set(looked.findings["rule"])
    if mode == "counts":
        rows = read(done.folder)
        last = rows.filter(pl.col("geography") == "school", pl.col("count").is_null()).head(1)
        on = ["district_id", "school_id", "grade", "group_kind", "student_group", "measure"]
        leak = last.select(on).with_columns(leaked=pl.lit(7))
        shown = rows.join(leak, on=on, how="left").with_columns(count=pl.coalesce("count", "leaked")).drop("leaked")
        shown.write_parquet(done.folder / "state_aggregate.parquet")
        assert set(audit_files([done.folder], None).findings["rule"]) & {"small", "contradiction"}


def materialize(home: Home, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    job = defs.resolve_job_def(PUBLISH_STATE.name)
    return job.execute_in_process(instance=instance, resources={"work": Work(home)}, raise_on_error=False)


def test_the_asset_publishes_once_and_then_has_nothing_to_do(home: Home, monkeypatch: pytest.MonkeyPatch):
    with dg.DagsterInstance.ephemeral() as instance:
        first = materialize(home, instance)
        assert first.success and [each.passed for each in first.get_asset_check_evaluations()] == [True]
        again = materialize(home, instance)
        assert again.success and not again.asset_materializations_for_node("publish_state")
    assert [path.name for path in (home.reports / "state").iterdir()] == ["2026-spring-bands"]


def test_the_asset_fails_with_its_audit(home: Home, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_, **__):
        raise PublicationRefused("The audit did not pass.")

    monkeypatch.setattr(publishing, "publish_state", refuse)
    with dg.DagsterInstance.ephemeral() as instance:
        result = materialize(home, instance)
    assert not result.success and [each.passed for each in result.get_asset_check_evaluations()] == [False]
