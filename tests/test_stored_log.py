"""A home that the first version of the payloads wrote is read by this one, and nothing of it is corrected by that."""

import zipfile
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

from pipelines.corrections import NEW, merge, retract, split
from pipelines.explain import explain
from pipelines.verify import verify_home
from schemas.contract import columns, nullable
from schemas.events import FAMILIES, SCHEMA_VERSION, UNHASHED
from schemas.policy import UnreadablePolicy, policy_on_record
from schemas.upcasts import UPCASTS, upcast
from tests.homes import POLICY, Clock, Place, map_file, map_row, users_file
from tests.test_equality import ENROLMENTS, assert_same
from transforms.policies import history
from warehouse.log import loaded

STORED = Path(__file__).parent / "data" / "stored" / "home_v1.zip"
"""Written by the release before version 2 with the steps of ``lived``: log, vault, notes, archive and policy."""
SETTINGS = POLICY + "[classes]\nclass_minimum = 6\n"
CLASSES = (
    "sourcedId,status,dateLastModified,title,grades,courseSourcedId,classCode,classType,location,schoolSourcedId,"
    "termSourcedIds,subjects,subjectCodes,periods\n"
    "X,active,,,04,,,scheduled,,s1,,Mathematics,02034,1\n"
)
LATER = datetime(2026, 8, 1, tzinfo=UTC)


def event(place: Place, student: str, score: float) -> str:
    tests = place.events().filter(pl.col("vendor_test_id") == f"t{student}", pl.col("score") == score)
    return str(tests["event_id"].item())


def second(**said: int) -> str:
    """The later export of the four."""
    return map_file(*(map_row(each, said.get(each, 186)) for each in "ABCD"))


def lived(root: Path) -> Place:
    """The steps of the stored home: a roster, two exports, and what people said."""
    place = Place(root, SETTINGS)
    rows = "\n".join(f"e{each},active,,X,s1,S{each},student,true,2025-08-20," for each in "ABCD")
    place.load("2025-09-01/classes.csv", CLASSES)
    place.load("2025-09-01/users.csv", users_file(*"ABCD"))
    place.load("2025-09-01/enrollments.csv", f"{ENROLMENTS}\n{rows}\n")
    place.load("2025-09-20/map.csv", second())
    place.load("2025-11-05/map.csv", second(A=192, B=184))
    keys = dict(place.events().select(pl.col("vendor_test_id").str.slice(1), "subject_key").unique().rows())
    merge(place.home, keys["C"], keys["D"], "The office found the paper card.", place.sources())
    split(place.home, keys["B"], NEW, [event(place, "B", 184)], "Another child's.", place.sources())
    retract(place.home, event(place, "A", 192), "correction_was_wrong", sources=place.sources())
    return place


@pytest.fixture
def stored(tmp_path: Path) -> Place:
    """The stored home, some weeks later."""
    with zipfile.ZipFile(STORED) as packed:
        packed.extractall(tmp_path / "stored" / "home")
    for closed in ("vault", "notes", "archive"):
        for path in (folder := tmp_path / "stored" / "home" / closed, *folder.rglob("*")):
            path.chmod(0o700 if path.is_dir() else 0o600)
    place = Place(tmp_path / "stored", SETTINGS)
    place.clock = Clock(LATER)
    return place


def written(place: Place, family: str) -> pl.DataFrame:
    """Events of a family as they stand on disk."""
    readings = loaded(place.log.ledger_rows())
    return place.log.stored_events(family, [place.district], readings).collect().sort("event_id", "batch_id")


def test_the_stored_home_is_of_the_version_before(stored: Place):
    assert {*written(stored, "identity")["schema_version"]} == {1} != {SCHEMA_VERSION}
    assert STORED.stat().st_size < 300_000
    stored_columns = {each.name for each in DeltaTable(stored.log.families["identity"].uri).schema().fields}
    assert set(columns(FAMILIES["identity"])) - stored_columns == {"stated_by", "state_id_hash"}


def test_what_was_said_before_is_read_in_the_words_of_today(stored: Place):
    told = stored.events("identity").select("event_type", "stated_by").rows()
    assert sorted(told) == [
        ("StudentMerged", "person"),
        *[("StudentMerged", "roster")] * 4,
        ("StudentSplit", "person"),
    ]
    assert written(stored, "identity")["stated_by"].null_count() == 6, "nothing was written back"
    pair = stored.events("identity").filter(event_type="StudentMerged", stated_by="person")["winner_key"].item()
    section = explain(stored.home, "student", pair)["Who is one student"]
    assert sorted(section["stated_by"]) == ["person", "roster", "roster"]


def test_keys_hashes_and_ids_are_those_that_this_version_gives_the_same_facts(stored: Place, tmp_path: Path):
    today = lived(tmp_path / "today")
    identity = ["event_id", "natural_key", "content_hash"]
    for family in FAMILIES:
        old, new = (written(each, family) for each in (stored, today))
        assert old.select(identity).equals(new.select(identity)), family
    stored.refresh()
    today.refresh()
    assert_same(today.tables(), stored.tables())


def test_an_upgrade_corrects_nothing_and_tables_gain_columns_that_may_be_null(stored: Place):
    before = stored.all_events()
    stored.land("2026-05-01/map.csv", second(A=192, B=184).replace("\n", "\r\n"))
    (row,) = stored.load().rows
    assert (row["facts_unchanged"], row["facts_corrected"], row["facts_appended"]) == (4, 0, 0)
    assert stored.all_events() == before
    keys = dict(stored.events().select(pl.col("vendor_test_id").str.slice(1), "subject_key").unique().rows())
    merge(stored.home, keys["A"], keys["B"], "Said so.", stored.sources())
    identity = written(stored, "identity")
    assert identity["schema_version"].value_counts().sort("schema_version").rows() == [(1, 6), (SCHEMA_VERSION, 1)]
    assert identity.filter(schema_version=SCHEMA_VERSION)["stated_by"].to_list() == ["person"]


def test_a_stored_home_agrees_with_itself(stored: Place):
    (stored.home.vault / "secret").write_text(stored.sources().secret.hex())
    (stored.home.vault / "secret").chmod(0o600)
    stored.refresh()
    assert [each for each in verify_home(stored.home, [stored.district]) if not each["is_passed"]] == []


def test_every_upcast_is_of_columns_that_may_be_null_and_are_in_no_hash_of_the_version_before():
    for each in UPCASTS:
        assert each.version <= SCHEMA_VERSION
        assert each.columns.keys() <= nullable(FAMILIES[each.family]) & UNHASHED
    assert [each.version for each in UPCASTS] == sorted(each.version for each in UPCASTS)


def test_rows_of_this_version_and_other_types_stay_as_they_are():
    rows = pl.DataFrame(
        [(2, "StudentMerged", None), (1, "StudentMerged", None), (1, "StudentIdentified", None)],
        schema={"schema_version": pl.Int16, "event_type": pl.String, "stated_by": pl.String},
        orient="row",
    ).with_columns(layout=pl.lit("statement"))
    assert upcast(rows.lazy(), "identity").collect()["stated_by"].to_list() == [None, "person", None]
    assert upcast(rows.lazy(), "screening").collect().equals(rows)


# Policies on record


def test_a_policy_on_record_is_read_though_todays_rules_would_refuse_it():
    document = (
        '{"time_zone": "America/Denver", "colour": "red", "tiers": {"enter": 7, "exit": 0.1},'
        ' "cuts": [{"measure": "map_growth_math", "by": "guess"}], "homeroom_grades": ["K", "1"]}'
    )
    policy, unread = policy_on_record(document)
    assert (policy.tiers.exit, policy.homeroom_grades, policy.cuts) == (0.1, ("K", "1"), ())
    assert policy.tiers.enter == type(policy.tiers)().enter
    assert {each.split(".")[0] for each in unread} == {"colour", "tiers", "cuts"}
    assert "red" not in str(unread)


def test_settings_that_contradict_one_another_today_stand_as_they_were_decided():
    document = '{"time_zone": "America/Denver", "accuracy": {"outcome_measure": "state_test_math"}}'
    policy, unread = policy_on_record(document)
    assert (policy.accuracy.outcome_measure, unread) == ("state_test_math", ["policy"])


def test_what_is_no_policy_at_all_is_refused():
    with pytest.raises(UnreadablePolicy, match="use the release before"):
        policy_on_record('{"tiers": {}}')


def test_a_setting_on_record_that_is_read_otherwise_is_a_finding(stored: Place):
    table = stored.log.families["rules"]
    rows = table.scan().collect()
    older = pl.col("document").str.replace('"time_zone"', '"colour": "red", "time_zone"', literal=True)
    table.replace(rows.with_columns(document=older), rows.select(table.partition_by).unique().rows())
    assert history(stored.events("rules")).unread == [f"colour of {date(1980, 1, 1)}"]
    stored.refresh()
    found = stored.table("quality_result").filter(about="policy")
    assert found.select("rule", "is_blocking", "is_passed").rows() == [
        ("setting_on_record: colour of 1980-01-01", False, False)
    ]
    assert stored.table("tier_placement").height
