"""A good home agrees with itself; each kind of tampering is found by the rule that is about it, and no cell is told."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipelines.expectations import plausible
from pipelines.verify import verify_home
from schemas.projections import NeedLevel, ScreeningResult
from tests.conftest import Lived
from transforms.versions import misnamed
from warehouse.delta import Table
from warehouse.home import Home, HomeError
from warehouse.log import Log, exports, loaded
from warehouse.projections import Projections

RULES = (
    "event_hashes",
    "sightings",
    "events_counted",
    "ledger_balance",
    "lines_listed",
    "archive",
    "permissions",
    "projections",
)


def rewrite(table: Table, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    """Replace a whole Delta table by what ``change`` makes of it."""
    rows = table.scan().collect()
    table.replace(change(rows), rows.select(table.partition_by).unique().rows())


def first(condition: pl.Expr) -> pl.Expr:
    """The first row that meets a condition."""
    return condition & (condition.cum_sum() == 1)


def altered(column: str, value: pl.Expr, condition: pl.Expr) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda rows: rows.with_columns(pl.when(first(condition)).then(value).otherwise(column).alias(column))


def failed(home: Home, district: str, *, rebuild: bool = False) -> dict[str, str]:
    """Rules that fail and what is told of them."""
    results = verify_home(home, [district], plausible=plausible, rebuild=rebuild)
    assert {each["rule"] for each in results} == set(RULES)
    return {each["rule"]: each["told"] for each in results if not each["is_passed"]}


def test_a_good_home_passes_and_is_left_as_it_was(tampered: Home, lived: Lived):
    def files() -> dict[str, float]:
        return {str(path): path.stat().st_mtime for path in tampered.root.rglob("*") if path.is_file()}

    before, said = files(), []
    results = verify_home(tampered, [lived.district], said.append, plausible)
    assert [each["rule"] for each in results] == list(RULES)
    assert all(each["is_passed"] for each in results), results
    assert {each["district_id"] for each in results} == {lived.district}
    assert files() == before
    assert said


SCORE = 217.125
"""A score nobody has, to be looked for in what is told."""


def test_an_altered_score_is_found_by_its_content_hash(tampered: Home, lived: Lived):
    table = Log(tampered).families["screening"]
    rewrite(table, altered("score", pl.lit(SCORE), pl.col("score").is_not_null()))
    told = failed(tampered, lived.district)
    assert told["event_hashes"] == "1 events with another content than their hash"
    assert not set(told) - {"event_hashes", "projections"}
    assert str(SCORE) not in str(told)


def test_an_event_of_another_student_or_time_is_found_by_its_key_or_id(tampered: Home, lived: Lived):
    families = Log(tampered).families
    someone = families["screening"].scan().collect()["subject_key"].sort()[-1]
    rewrite(families["screening"], altered("subject_key", pl.lit(someone), pl.col("subject_key") != someone))
    later = pl.col("export_at").dt.offset_by("1d")
    rewrite(families["plan"], altered("export_at", later, pl.col("event_id").is_not_null()))
    told = failed(tampered, lived.district)
    assert told["event_hashes"] == (
        "1 events with a natural key that is not that of their columns;"
        " 1 events with an id that is not that of their type, key, content and export time"
    )
    assert someone not in str(told)


def test_an_event_that_was_taken_out_is_missed(tampered: Home, lived: Lived):
    rewrite(Log(tampered).families["screening"], lambda rows: rows[1:])
    told = failed(tampered, lived.district)
    assert told["sightings"] == "1 sightings without the event they saw"
    assert told["events_counted"].startswith("the log has another number of events than the ledger says: ")


def test_an_altered_count_of_the_ledger_does_not_add_up_or_misses_its_lines(tampered: Home, lived: Lived):
    star, parked = pl.col("layout") == "star_math", pl.col("parked") > 0

    def change(rows: pl.DataFrame) -> pl.DataFrame:
        rows = altered("parsed", pl.col("parsed") + 1, star)(rows)
        rows = altered("rejected", pl.col("rejected") + 1, parked)(rows)
        return altered("parked", pl.col("parked") - 1, parked)(rows)

    rewrite(Log(tampered).ledger, change)
    assert failed(tampered, lived.district) == {
        "ledger_balance": "rows or facts do not add up: star/SM_v2.zip!SM_v2.csv",
        "lines_listed": "other numbers of rejected or parked lines are listed: fastbridge/aMath.csv",
    }


def test_a_changed_and_a_missing_archived_file_are_named(tampered: Home, lived: Lived):
    rows = exports(Log(tampered).ledger_rows()).filter(pl.col("status") == "loaded")
    (batch, changed), (other, missing) = rows.select("batch_id", "file").rows()[:2]
    path = tampered.archived(lived.district, batch, changed)
    path.write_bytes(path.read_bytes() + b"\n")
    tampered.archived(lived.district, other, missing).unlink()
    told = failed(tampered, lived.district)
    assert set(told) == {"archive"}
    assert f"1 archived files are missing: {missing}" in told["archive"]
    assert told["archive"].endswith(f"not on record): {changed}")


def test_an_altered_projection_differs_from_the_rebuild(tampered: Home, lived: Lived):
    tables = Projections(tampered.projections).tables
    rewrite(tables[NeedLevel], altered("need_level", pl.lit("tier_3"), pl.col("need_level") != "tier_3"))
    strands = pl.col("strands")
    rewrite(tables[ScreeningResult], altered("strands", strands.list.head(1), strands.list.len() > 1))
    assert failed(tampered, lived.district, rebuild=True) == {
        "projections": "1 rows of screening_result differ from a rebuild; 1 rows of need_level differ from a rebuild"
    }


def test_only_a_rebuild_finds_what_was_altered_in_the_projections(tampered: Home, lived: Lived):
    rewrite(Projections(tampered.projections).tables[NeedLevel], lambda rows: rows[1:])
    results = verify_home(tampered, [lived.district], rebuild=False)
    assert [each["rule"] for each in results] == list(RULES)
    assert all(each["is_passed"] for each in results), results
    assert results[-1]["told"].endswith("--rebuild computes them again")


def test_what_others_can_read_is_named(tampered: Home, lived: Lived):
    (tampered.vault / "vault.sqlite").chmod(0o640)
    tampered.notes.chmod(0o750)
    results = verify_home(tampered, [lived.district], rebuild=False)
    told = {each["rule"]: each["told"] for each in results if not each["is_passed"]}
    assert told == {"permissions": "others can read notes, vault/vault.sqlite. Run chmod go-rwx on it"}


def test_projections_behind_the_log_are_not_compared(tampered: Home, lived: Lived, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pipelines.refresh.RULES_VERSION", "another")
    told = failed(tampered, lived.district)
    assert told == {
        "projections": "they are older than the ledger, the policy or the rules: `tierline run`, then verify again"
    }


def test_a_home_without_its_secret_is_told_so(tampered: Home, lived: Lived):
    (tampered.vault / "secret").unlink()
    with pytest.raises(HomeError, match="Restore it"):
        verify_home(tampered, [lived.district])
    assert not (tampered.vault / "secret").exists()


@pytest.mark.slow
def test_the_secret_of_another_home_is_told_so(tampered: Home, lived: Lived, tmp_path: Path):
    other = Home(tmp_path / "other")
    other.secret()
    shutil.copy(other.vault / "secret", tampered.vault / "secret")
    results: list[dict[str, Any]] = verify_home(tampered, [lived.district])
    assert results[0]["rule"] == "secret"
    assert not results[0]["is_passed"]


def test_a_home_that_never_ran_has_nothing_to_disagree(tmp_path: Path):
    home = Home(tmp_path).make()
    (home.landing / "d1").mkdir()
    (home.policies / "d1.toml").write_text('time_zone = "America/Denver"\n')
    assert {each["rule"] for each in verify_home(home, ["d1"])} <= {"permissions", "projections"}


def test_ordinals_are_found_again_without_their_file(lived: Lived):
    """Equal keys of one file are told apart by a number that stands in no column."""
    log = Log(lived.home)
    rows = log.events("session", [lived.district], loaded(log.ledger_rows())).collect()
    assert misnamed(rows, lived.home.secret()).is_empty()
    wrong = rows.with_columns(natural_key=pl.col("natural_key").str.reverse())
    assert misnamed(wrong, lived.home.secret()).height == rows.height
