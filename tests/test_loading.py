"""Landing folder to log through the real loader: every file adds up, whatever lands, however often, whenever."""

import io
import itertools
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pytest
import xlsxwriter

from pipelines.loading import HomeMismatch, Loader, Sources
from schemas.policy import UnreadablePolicy
from tests.homes import (
    FACT_OUTCOMES,
    MAP_HEADER,
    POLICY,
    ROW_OUTCOMES,
    Place,
    map_file,
    map_row,
    users_file,
)
from warehouse.home import Home
from warehouse.log import Log

MAP = "nwea_map_assessment_results"
KEEP = POLICY + 'landing = "keep"\n'


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def only(rows: list[dict[str, object]]) -> dict[str, object]:
    (row,) = rows
    return row


def counts(row: Mapping[str, object], names: tuple[str, ...] = ROW_OUTCOMES) -> dict[str, int]:
    """Counts of a ledger row that are not zero."""
    return {name: int(str(row[name])) for name in names if row[name]}


# One file is one batch, and it adds up


def test_every_row_of_a_file_has_one_outcome_and_every_slot_another(place: Place):
    file = map_file(
        map_row("1", 186),
        map_row("2", 190),
        map_row("2", 190),
        map_row("3", 191, subject="Science K-12"),
        map_row("4", "high"),
        map_row("", 188),
    )
    row = only(place.load("2025-10-01/map.csv", file).rows)
    assert (row["layout"], row["status"], row["data_rows"]) == (MAP, "loaded", 6)
    assert counts(row) == {"parsed": 2, "rejected": 2, "out_of_scope": 1, "duplicate_in_file": 1}
    assert counts(row, FACT_OUTCOMES) == {"facts_appended": 2}
    assert place.events()["batch_id"].unique().to_list() == [row["batch_id"]]
    rejected = place.log.rejected.scan().collect().sort("source_line")
    assert rejected.select("source_line", "column", "rule").rows() == [
        (6, "TestRITScore", "not_a_number"),
        (7, "StudentID", "missing_student_id"),
    ]


def test_a_repeat_of_a_damaged_row_is_damaged_too(place: Place):
    row = only(place.load("map.csv", map_file(map_row("1", "high"), map_row("1", "high"))).rows)
    assert counts(row) == {"rejected": 2}


def test_two_versions_of_one_test_in_a_file_are_both_kept_and_said(place: Place):
    row = only(place.load("map.csv", map_file(map_row("1", 186), map_row("1", 192))).rows)
    assert counts(row) == {"parsed": 2}
    assert counts(row, FACT_OUTCOMES) == {"facts_appended": 1, "facts_corrected": 1}
    assert "conflicting_sources: 1" in str(row["message"])
    assert len(place.current_scores()) == 1


def test_the_day_of_the_folder_is_the_day_of_the_export(place: Place):
    row = only(place.load("2025-10-01/map.csv", map_file(map_row("1", 186))).rows)
    assert str(row["export_at"]) == "2025-10-01 06:00:00+00:00"  # midnight in Denver


# Twice, corrected, back again


def test_the_same_file_twice_adds_nothing(place: Place):
    file = map_file(map_row("1", 186), map_row("2", 190))
    place.load("2025-10-01/map.csv", file)
    again = place.load("2025-10-08/another name.csv", file)
    assert (again.rows, again.unchanged_files) == ([], 1)
    assert place.ledger().height == 1
    assert place.all_events() == 2


def test_a_file_that_says_the_same_in_other_bytes_adds_no_event(place: Place):
    place.load("2025-10-01/map.csv", map_file(map_row("1", 186), map_row("2", 190)))
    row = only(place.load("2025-10-08/map.csv", map_file(map_row("2", "190.0"), map_row("1", 186))).rows)
    assert counts(row, FACT_OUTCOMES) == {"facts_unchanged": 2}
    assert place.all_events() == 2


def test_a_corrected_export_appends_only_what_changed(place: Place):
    place.load("2025-10-01/map.csv", map_file(*(map_row(str(n), 180 + n) for n in range(1, 21))))
    corrected = map_file(*(map_row(str(n), 180 + n + (n == 7)) for n in range(1, 22)))
    row = only(place.load("2025-10-08/map.csv", corrected).rows)
    assert counts(row, FACT_OUTCOMES) == {"facts_appended": 1, "facts_corrected": 1, "facts_unchanged": 19}
    events = place.events()
    assert events["event_type"].value_counts().sort("event_type").rows() == [
        ("ScreenerCorrected", 1),
        ("ScreenerScored", 21),
    ]
    assert place.current_scores() == sorted([180.0 + n + (n == 7) for n in range(1, 22)])


HISTORY = (("2025-10-01", 186), ("2025-10-08", 192), ("2025-10-15", 186))


def export_of(day: str, score: int) -> str:
    """One test of one student, and a row out of scope: two exports are never the same bytes."""
    return map_file(map_row("1", score), map_row("1", 200, subject="Science K-12", school=day))


def test_a_score_that_changes_and_changes_back_is_three_events(place: Place):
    for day, score in HISTORY:
        place.load(f"{day}/map.csv", export_of(day, score))
    assert place.events().sort("export_at")["score"].to_list() == [186, 192, 186]
    assert place.events()["event_id"].n_unique() == 3
    assert place.current_scores() == [186]


@pytest.mark.parametrize(
    "order",
    [
        (2, 1, 0),
        *(pytest.param(each, marks=pytest.mark.slow) for each in itertools.permutations(range(3)) if each != (2, 1, 0)),
    ],
)
def test_the_order_of_arrival_does_not_matter(tmp_path: Path, order: tuple[int, ...]):
    place = Place(tmp_path)
    for number in order:
        day, score = HISTORY[number]
        place.load(f"{day}/map.csv", export_of(day, score))
    assert place.current_scores() == [186]
    seen = place.log.sightings.scan(family=["screening"]).sort("export_at").collect()
    assert seen["content_hash"].n_unique() == 2
    assert seen["content_hash"][0] == seen["content_hash"][2] != seen["content_hash"][1]


# Held, and offered again


def unknown_score_header() -> str:
    return map_file(map_row("1", 186)).replace("TestRITScore", "RIT of the test")


def test_a_held_file_is_one_line_and_stays_in_the_landing_folder(place: Place):
    row = only(place.load("map.csv", unknown_score_header()).rows)
    assert (row["status"], row["held_rule"], row["data_rows"]) == ("held", "renamed_column", 1)
    assert '"RIT of the test"' in str(row["message"]) and '"TestRITScore"' in str(row["message"])
    assert (place.landing / "map.csv").exists()
    assert place.all_events() == 0
    again = place.load()
    assert (again.rows, again.unchanged_files, again.still_held) == ([], 1, 1)


def test_a_held_file_is_offered_again_when_an_alias_is_added(place: Place):
    place.load("map.csv", unknown_score_header())
    folder = place.home.policies / "aliases"
    folder.mkdir()
    (folder / f"{MAP}.toml").write_text('[columns]\nscore = ["RIT of the test"]\n')
    row = only(place.load().rows)
    assert (row["status"], row["renamed_columns"]) == ("loaded", "TestRITScore = RIT of the test")
    assert place.current_scores() == [186]
    assert not (place.landing / "map.csv").exists()


def test_a_held_file_is_offered_again_when_the_policy_changes(place: Place):
    place.load("1/users.csv", users_file("1", "2", "3", "4", "5"))
    file = map_file(map_row("1", 186), *(map_row(f"x{n}", 190) for n in range(9)))
    row = only(place.load("map.csv", file).rows)
    assert (row["held_rule"], place.load().rows) == ("match_rate", [])
    assert "10.0%" in str(row["message"]) and "50%" in str(row["message"])
    place.set_policy(POLICY + "[quality]\nmatch_rate_minimum = 0.1\n")
    row = only(place.load().rows)
    assert (row["status"], row["attempt"]) == ("loaded", 2)
    assert counts(row) == {"parsed": 1, "parked": 9}
    assert (row["match_column"], row["match_rate"]) == ("StudentID", 0.1)


def test_a_held_file_is_offered_again_when_a_roster_comes(place: Place):
    place.load("1/users.csv", users_file("1"))
    held = only(place.load("map.csv", map_file(*(map_row(str(n), 180 + n) for n in range(1, 6)))).rows)
    assert held["held_rule"] == "match_rate"
    report = place.load("2/users.csv", users_file(*"12345"))
    assert [row["status"] for row in report.rows] == ["loaded", "loaded"]
    assert place.current_scores() == [181, 182, 183, 184, 185]


def test_last_years_file_is_held(place: Place):
    file = map_file(*(map_row(str(n), 186, day="09/10/2024") for n in range(5)))
    row = only(place.load("2025-10-01/map.csv", file).rows)
    assert (row["held_rule"], row["data_rows"]) == ("school_year_disagrees", 5)
    assert place.all_events() == 0


# Parked rows


def attempts(place: Place, name: str) -> list[dict[str, object]]:
    return place.ledger().filter(pl.col("file") == name).sort("attempt").to_dicts()


def assert_rows_over_attempts(rows: list[dict[str, object]]) -> None:
    """Each data row under its latest outcome: every attempt takes over what the one before parked."""
    first, *later = rows
    for before, after in itertools.pairwise(rows):
        assert after["data_rows"] == before["parked"]
    settled = sum(sum(counts(row).values()) - int(str(row["parked"])) for row in rows)
    assert settled + int(str(rows[-1]["parked"])) == first["data_rows"]
    assert [row["attempt"] for row in later] == list(range(2, len(rows) + 1))


@pytest.mark.parametrize("landing", [POLICY, pytest.param(KEEP, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "shape", ["csv", "zip", *(pytest.param(each, marks=pytest.mark.slow) for each in ("gz", "xlsx", "sheets"))]
)
def test_parked_rows_are_read_again_when_a_later_roster_has_them(tmp_path: Path, landing: str, shape: str):
    place = Place(tmp_path, landing)
    place.load("1/users.csv", users_file("1", "2"))
    name, data, shown = shaped(shape, [map_row("1", 186), map_row("2", 190), map_row("3", 191), map_row("4", "high")])
    first = place.load(f"2025-10-01/{name}", data).rows[0]
    assert (first["file"], counts(first)) == (f"2025-10-01/{shown}", {"parsed": 2, "rejected": 1, "parked": 1})
    assert place.current_scores() == [186, 190]

    report = place.load("2/users.csv", users_file("1", "2", "3"))
    retried = only([row for row in report.rows if row["file"] == first["file"]])
    assert (retried["batch_id"], retried["attempt"]) == (first["batch_id"], 2)
    assert (counts(retried), retried["export_at"]) == ({"parsed": 1}, first["export_at"])
    assert_rows_over_attempts(attempts(place, str(first["file"])))
    assert place.current_scores() == [186, 190, 191]
    assert place.load().rows == []


def shaped(shape: str, rows: list[str]) -> tuple[str, bytes, str]:
    """File name, bytes and the name in the ledger of a MAP file in another wrapping."""
    text = map_file(*rows)
    stream = io.BytesIO()
    if shape == "csv":
        return "map.csv", text.encode(), "map.csv"
    if shape == "gz":
        import gzip

        return "map.csv.gz", gzip.compress(text.encode(), mtime=0), "map.csv"
    if shape == "zip":
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("in/AssessmentResults.csv", text)
        return "map.zip", stream.getvalue(), "map.zip!in/AssessmentResults.csv"
    with xlsxwriter.Workbook(stream) as book:
        for title in ["Fall"] if shape == "xlsx" else ["Fall", "Notes"]:
            sheet = book.add_worksheet(title)
            for number, line in enumerate(text.splitlines()):
                sheet.write_row(number, 0, line.split(",") if title == "Fall" else ["about this export", "see us"])
    return "map.xlsx", stream.getvalue(), "map.xlsx" if shape == "xlsx" else "map.xlsx!Fall"


def test_rows_stay_parked_until_a_roster_has_their_student(place: Place):
    place.load("1/users.csv", users_file(*"1234"))
    place.load("map.csv", map_file(*(map_row(each, 186) for each in "123456")))
    for number, roster in enumerate((("9",), ("5",), ("6",)), 2):
        place.load(f"{number}/users.csv", users_file(*roster))
    rows = attempts(place, "map.csv")
    assert [counts(row) for row in rows] == [{"parsed": 4, "parked": 2}, {"parked": 2}, {"parsed": 1, "parked": 1},
                                             {"parsed": 1}]  # fmt: skip
    assert_rows_over_attempts(rows)
    assert len(place.current_scores()) == 6


def test_a_parked_row_read_late_is_older_than_a_later_export(place: Place):
    place.load("1/users.csv", users_file("1", "2"))
    place.load("2025-10-01/map.csv", map_file(map_row("1", 186), map_row("2", 186), map_row("3", 186)))
    place.land("2025-10-08/map.csv", map_file(map_row("3", 192)))
    place.load("2/users.csv", users_file("1", "2", "3"))
    assert place.current_scores() == [186, 186, 192]


# The archive


def test_loaded_files_move_to_an_archive_closed_to_others(place: Place):
    file = map_file(map_row("1", 186))
    row = only(place.load("2025-10-01/map.csv", file).rows)
    assert not (place.landing / "2025-10-01" / "map.csv").exists()
    (kept,) = (path for path in place.home.archive.rglob("*") if path.is_file())
    assert kept.read_text() == file and str(row["batch_id"]).startswith(kept.parent.name)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.home.archive.stat().st_mode) == 0o700


def test_where_the_landing_folder_is_kept_files_are_copied(tmp_path: Path):
    place = Place(tmp_path, KEEP)
    place.load("map.csv", map_file(map_row("1", 186)))
    assert (place.landing / "map.csv").exists()
    assert len([path for path in place.home.archive.rglob("*") if path.is_file()]) == 1
    again = place.load()
    assert (again.rows, again.unchanged_files) == ([], 1)


def test_an_archive_leaves_the_landing_folder_once_all_of_it_is_loaded(place: Place):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.csv", map_file(map_row("1", 186)))
        archive.writestr("b.csv", unknown_score_header())
    place.load("both.zip", stream.getvalue())
    assert (place.landing / "both.zip").exists()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.csv", map_file(map_row("2", 186)))
        archive.writestr("b.csv", map_file(map_row("3", 186)))
    place.load("good.zip", stream.getvalue())
    assert not (place.landing / "good.zip").exists()


def test_a_workbook_with_real_dates_is_read_whole(place: Place):
    stream = io.BytesIO()
    with xlsxwriter.Workbook(stream) as book:
        for title, student in (("Fall", "1"), ("Late fall", "2")):
            sheet = book.add_worksheet(title)
            cells = dict(zip(MAP_HEADER.split(","), map_row(student, 186).split(","), strict=True))
            for column, (header, cell) in enumerate(cells.items()):
                sheet.write_string(0, column, header)
                if header == "TestStartDate":
                    sheet.write_number(1, column, 45910)  # a date whose format was lost: 2025-09-10
                else:
                    sheet.write_string(1, column, cell)
    rows = place.load("2025-10-01/map.xlsx", stream.getvalue()).rows
    assert [(row["file"], counts(row)) for row in rows] == [
        ("2025-10-01/map.xlsx!Fall", {"parsed": 1}),
        ("2025-10-01/map.xlsx!Late fall", {"parsed": 1}),
    ]
    assert {str(day) for day in place.events()["occurred_on"]} == {"2025-09-10"}


# Crashes


class PowerCut(Exception):
    pass


class FailsBeforeTheLedger(Log):
    """The process dies between the family commits and the ledger row."""

    def record(self, row: Mapping[str, object]) -> None:
        raise PowerCut


class FailsBetweenFamilies(Log):
    """The process dies after the first family was committed."""

    def append(self, batch_id, attempt, facts, sightings, rejected, parked, notes):  # type: ignore[no-untyped-def]
        family = next(name for name, rows in facts.items() if rows.height)
        self.families[family].append(facts[family], f"{batch_id}:{attempt}")
        raise PowerCut


def crash(place: Place, log: Log) -> None:
    loader = Loader(place.home, place.sources())
    loader.log = log
    with pytest.raises(PowerCut):
        loader.load(place.district)
    loader.vault.close()


@pytest.mark.parametrize("kind", [FailsBeforeTheLedger, FailsBetweenFamilies])
def test_a_crash_leaves_nothing_visible_and_the_rerun_loads_the_file_whole(place: Place, kind: type[Log]):
    place.load("1/users.csv", users_file("1", "2", "3"))
    place.land("map.csv", map_file(map_row("1", 186), map_row("2", 190), map_row("9", 190)))
    before = place.ledger()
    crash(place, kind(place.home))
    assert place.log.families["screening"].scan().collect().height == 2  # on the disk
    assert place.ledger().equals(before)
    assert place.events().is_empty()
    assert place.current_scores() == []
    assert (place.landing / "map.csv").exists()

    row = only(place.load().rows)
    assert (row["attempt"], counts(row), counts(row, FACT_OUTCOMES)) == (
        2, {"parsed": 2, "parked": 1}, {"facts_appended": 2},
    )  # fmt: skip
    assert place.events().height == 2
    assert place.current_scores() == [186, 190]


def test_a_crash_after_the_roster_does_not_forget_the_parked_rows(place: Place):
    place.load("1/users.csv", users_file("1", "2"))
    place.load("map.csv", map_file(map_row("1", 186), map_row("2", 190), map_row("3", 191)))

    class FailsAfterTheRoster(Log):
        def record(self, row: Mapping[str, object]) -> None:
            if row["layout"] == MAP:
                raise PowerCut
            super().record(row)

    place.land("2/users.csv", users_file("1", "2", "3"))
    crash(place, FailsAfterTheRoster(place.home))
    place.load()
    assert place.current_scores() == [186, 190, 191]


# Refusals


def test_a_log_written_with_another_secret_is_refused(place: Place):
    place.load("map.csv", map_file(map_row("1", 186)))
    place.land("map2.csv", map_file(map_row("2", 186)))
    loader = Loader(place.home, Sources(secret=bytes(32)))
    with pytest.raises(HomeMismatch, match="Restore the vault"):
        loader.load(place.district)
    assert place.ledger().height == 1
    assert place.load().files("loaded") == 1


def test_without_a_policy_nothing_is_read_and_the_message_says_what_to_write(tmp_path: Path):
    place = Place(tmp_path)
    (place.home.policies / "d1.toml").unlink()
    place.land("map.csv", map_file(map_row("1", 186)))
    with pytest.raises(UnreadablePolicy, match=r"policy/d1\.toml does not exist.*time_zone"):
        place.load()
    assert not Path(Home(place.home.root).log, "ingest_ledger").exists()
