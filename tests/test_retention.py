"""Archived files go at the end of their retention, never while something still needs them."""

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from pipelines.explain import FILES, explain
from pipelines.verify import verify_home
from pipelines.work import Work
from schemas.policy import DistrictPolicy
from tests.homes import POLICY, Place, map_file, map_row, users_file
from transforms.retention import past_retention
from warehouse.archive import RECORD, removed

KEEP_90 = POLICY + "archive_days_after_year = 90\n"
LAST_DAY = date(2026, 9, 28)
"""90 days after 30 June 2026."""


def ledger(*rows: tuple) -> pl.DataFrame:
    """Readings as (batch, status, school years, parked, recorded)."""
    return pl.DataFrame(
        [
            {
                "batch_id": batch, "file": f"{batch}.csv", "status": status, "school_years": years, "parked": parked,
                "recorded_at": datetime(*recorded, tzinfo=UTC), "export_at": datetime(2026, 2, 1, tzinfo=UTC),
            }
            for batch, status, years, parked, recorded in rows
        ]
    ).with_columns(pl.col("school_years").cast(pl.String), pl.col("parked").cast(pl.Int64))  # fmt: skip


def past(rows: pl.DataFrame, today: date, **knobs) -> list[str]:
    policy = DistrictPolicy(**{"time_zone": "America/Denver", "archive_days_after_year": 90, **knobs})
    return sorted(past_retention(rows, policy, today)["batch_id"])


EARLY = (2025, 10, 1)


def test_a_file_is_kept_through_its_last_day_and_not_longer():
    rows = ledger(("a", "loaded", "2026", 0, EARLY))
    assert past(rows, LAST_DAY) == []
    assert past(rows, date(2026, 9, 29)) == ["a"]


def test_the_latest_year_of_all_its_readings_decides():
    rows = ledger(
        ("a", "loaded", "2025;2026", 0, EARLY), ("b", "loaded", "2026", 1, EARLY), ("b", "loaded", "2027", 0, EARLY)
    )
    assert past(rows, date(2027, 9, 28)) == ["a"]
    assert past(rows, date(2027, 9, 29)) == ["a", "b"]


@pytest.mark.parametrize("years", [None, "all"])
def test_a_file_that_touched_no_year_belongs_to_the_year_of_its_export(years):
    rows = ledger(("a", "loaded", years, 0, EARLY))
    assert (past(rows, LAST_DAY), past(rows, date(2026, 9, 29))) == ([], ["a"])


def test_the_school_year_is_the_districts_own():
    rows = ledger(("a", "loaded", "2026", 0, EARLY))
    assert past(rows, date(2026, 10, 29), year_starts_month=8) == []
    assert past(rows, date(2026, 10, 30), year_starts_month=8) == ["a"]


def test_parked_rows_and_held_readings_keep_a_file():
    rows = ledger(
        ("parked", "loaded", "2026", 1, EARLY),
        ("found", "loaded", "2026", 1, EARLY),
        ("found", "loaded", "2026", 0, (2025, 11, 1)),
        ("held", "held", None, None, EARLY),
        ("again", "loaded", "2026", 0, EARLY),
        ("again", "held", None, None, (2025, 11, 1)),
    )
    assert past(rows, date(2030, 1, 1)) == ["found"]


def test_an_old_file_that_is_loaded_late_does_not_vanish_on_the_day_it_comes():
    rows = ledger(("a", "loaded", "2023", 0, (2026, 7, 1)))  # 30 June in Denver
    assert (past(rows, LAST_DAY), past(rows, date(2026, 9, 29))) == ([], ["a"])


def test_without_the_knob_no_file_is_ever_past():
    assert past(ledger(("a", "loaded", "2001", 0, (2001, 1, 1))), date(2099, 1, 1), archive_days_after_year=None) == []


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A home with a roster, a file that is done and one with a parked row, a day before their retention ends."""
    made = Place(tmp_path_factory.mktemp("kept"), KEEP_90)
    made.clock.now = datetime(2025, 10, 2, tzinfo=UTC)
    made.load("2025-10-01/users.csv", users_file("1", "2"))
    made.load("2025-10-01/map.csv", map_file(map_row("1", 186)))
    made.load("2025-10-02/parked.csv", map_file(map_row("2", 190), map_row("9", 192)))
    made.clock.now = datetime(2026, 9, 28, 18, tzinfo=UTC)
    return made


@pytest.fixture
def place(kept: Place, tmp_path: Path) -> Place:
    return kept.copy(tmp_path)


def archived(place: Place) -> list[str]:
    return sorted(path.name for path in place.home.archive.rglob("*") if path.is_file())


def test_a_run_removes_what_is_past_and_says_how_many(place: Place):
    assert place.load().removed_files == 0
    before = place.ledger()
    place.clock.now = datetime(2026, 9, 29, 18, tzinfo=UTC)
    work = Work(place.home, place.sources())
    assert work.run([place.district], {"exports", "events"}).summary()["files"]["removed_from_archive"] == 2
    assert archived(place) == ["parked.csv", RECORD]
    assert place.ledger().equals(before)
    assert place.load().removed_files == 0


def test_parked_rows_are_read_again_from_a_file_that_outlived_the_others(place: Place):
    place.clock.now = datetime(2026, 9, 29, 18, tzinfo=UTC)
    place.load()
    report = place.load("2026-09-29/users.csv", users_file("1", "2", "9"))
    assert [row["parked"] for row in report.rows] == [0, 0]
    assert place.current_scores() == [186, 190, 192]
    assert report.removed_files == 0  # it was read today
    place.clock.now = datetime(2027, 1, 1, tzinfo=UTC)
    assert place.load().removed_files == 1


@pytest.mark.slow
def test_what_retention_removed_is_no_fault_and_what_is_lost_is(place: Place):
    place.home.vault.joinpath("secret").touch(0o600)
    place.home.vault.joinpath("secret").write_text(place.sources().secret.hex())
    place.clock.now = datetime(2026, 9, 29, 18, tzinfo=UTC)
    place.load()
    place.refresh()

    def told() -> tuple[bool, str]:
        (found,) = (each for each in verify_home(place.home, [place.district]) if each["rule"] == "archive")
        return found["is_passed"], found["told"]

    good = "1 archived files are byte for byte what was loaded; 2 were removed at the end of their retention"
    assert told() == (True, good)
    place.set_policy(POLICY)  # whoever lifts the rule does not make lost files of those it removed
    assert told() == (True, good)
    next(place.home.archive.rglob("parked.csv")).unlink()
    assert told() == (False, "1 archived files are missing: 2025-10-02/parked.csv")


def test_a_decision_still_leads_to_file_and_line(place: Place):
    place.refresh()
    (subject,) = place.events().filter(pl.col("score") == 186)["subject_key"]

    def files() -> dict[str, str | None]:
        rows = explain(place.home, "student", subject)[FILES]
        return dict(rows.select("file", "kept_as").rows())

    assert all(files().values())
    place.clock.now = datetime(2026, 9, 29, 18, tzinfo=UTC)
    place.load()
    assert files() == {"2025-10-01/map.csv": None, "2025-10-01/users.csv": None}
    versions = explain(place.home, "student", subject)["Versions of tests"]
    assert versions.select("file", "source_line").rows() == [("2025-10-01/map.csv", 2)]


@pytest.mark.parametrize("landing", ["move", "keep"])
def test_a_file_that_lands_again_is_not_kept_again(place: Place, landing: str):
    place.set_policy(KEEP_90 + f'landing = "{landing}"\n')
    place.clock.now = datetime(2026, 9, 29, 18, tzinfo=UTC)
    place.load()
    again = place.land("2025-10-01/map.csv", map_file(map_row("1", 186)))
    report = place.load()
    assert (report.unchanged_files, report.removed_files) == (1, 0)
    assert again.exists() == (landing == "keep")
    assert archived(place) == ["parked.csv", RECORD]


def test_a_removal_that_broke_off_is_finished_by_the_next_run(place: Place, monkeypatch: pytest.MonkeyPatch):
    def broken(_: Path) -> None:
        raise OSError

    place.clock.now = datetime(2026, 9, 29, 18, tzinfo=UTC)
    with monkeypatch.context() as patch, pytest.raises(OSError):
        patch.setattr("warehouse.archive.shutil.rmtree", broken)
        place.load()
    assert len(removed(place.home, place.district)) == 2
    assert place.load().removed_files == 2
    assert place.home.archive.joinpath(place.district, RECORD).read_text().count("\n") == 2


def test_how_files_are_kept_changes_no_window():
    plain = DistrictPolicy(time_zone="America/Denver")
    kept = DistrictPolicy(time_zone="America/Denver", archive_days_after_year=90, own_warehouse=True)
    assert (plain.document, plain.ruling) == (kept.document, kept.ruling)
