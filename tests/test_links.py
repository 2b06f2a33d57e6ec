"""History that follows a student from one district to another, where an agreement allows it, and nowhere else."""

from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from pipelines.corrections import NotPossible, merge
from pipelines.links import linked
from pipelines.refresh import refresh
from pipelines.verify import verify_home
from schemas.policy import UnreadablePolicy
from tests.homes import Place, map_file, map_row, read_tables, users_file
from tests.test_equality import ENROLMENTS, assert_same
from transforms.identity import links, state_ids
from warehouse.projections import Projections

AGREED = 'cross_district_links = true\nagreement = "Memorandum of the two boards, 2024-07-01"\n'
DISTRICTS = ("d1", "d2")
CLASSES = (
    "sourcedId,status,dateLastModified,title,grades,courseSourcedId,classCode,classType,location,schoolSourcedId,"
    "termSourcedIds,subjects,subjectCodes,periods"
)
OLD = {"term": "Fall 2024-2025", "day": "09/10/2024"}
WINTER = {"term": "Winter 2025-2026", "day": "01/14/2026"}
BACK = ("back", "2024-08-20", "2025-06-01")
"""A student of the first district who was in the second the year before."""


def users(students: list[str]) -> str:
    return users_file(*students, state="9")


def classes(name: str) -> str:
    return f"{CLASSES}\n{name},active,,,04,,,scheduled,,s1,,Mathematics,02034,1\n"


def enrolled(name: str, *spells: tuple[str, str, str]) -> str:
    rows = (f"e{n},active,,{name},s1,S{who},student,true,{begin},{end}" for n, (who, begin, end) in enumerate(spells))
    return "\n".join((ENROLMENTS, *rows)) + "\n"


def scores(percentiles: dict[str, int], **where: str) -> str:
    term = where.get("term", "Fall 2025-2026")
    rows = (
        map_row(who, 150 + percentile, percentile=percentile, test=f"{who} {term}", **where)
        for who, percentile in percentiles.items()
    )
    return map_file(*rows)


def loaded(root: Path) -> dict[str, Place]:
    """`moved` changed district in summer, `winter` in November; `east` and `west` stayed where they were."""
    places = {each: Place(root, district=each) for each in DISTRICTS}
    east, west = places["d1"], places["d2"]
    east.land("2025-10-01/users.csv", users(["moved", "winter", "east", "back"]))
    east.land("2025-10-01/classes.csv", classes("E"))
    stays = ("east", "2024-08-20", "")
    gone = [("moved", "2024-08-20", "2025-06-01"), ("winter", "2025-08-20", "2025-11-28"), ("back", "2025-08-20", "")]
    east.land("2026-02-01/enrollments.csv", enrolled("E", stays, *gone))
    east.land("2024-10-01/map.csv", scores({"moved": 3, "east": 60}, **OLD))
    east.land("2025-10-01/map.csv", scores({"winter": 4, "east": 60, "back": 50}))
    east.land("2026-02-01/map.csv", scores({"east": 60, "back": 50}, **WINTER))
    west.land("2025-10-01/users.csv", users(["moved", "winter", "west", "back"]))
    west.land("2025-10-01/classes.csv", classes("W"))
    came = [("moved", "2025-08-20", ""), ("winter", "2025-12-01", ""), BACK]
    west.land("2026-02-01/enrollments.csv", enrolled("W", ("west", "2024-08-20", ""), *came))
    west.land("2024-10-01/map.csv", scores({"west": 60, "back": 2}, **OLD))
    west.land("2025-10-01/map.csv", scores({"moved": 50, "west": 60}))
    west.land("2026-02-01/map.csv", scores({"winter": 50, "west": 60, "moved": 50}, **WINTER))
    for place in places.values():
        assert {row["status"] for row in place.load().rows} == {"loaded"}
    return places


@pytest.fixture(scope="module")
def unlinked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Place]:
    made = loaded(tmp_path_factory.mktemp("links"))
    brought_up(made)
    return made


@pytest.fixture
def places(unlinked: dict[str, Place], tmp_path: Path) -> dict[str, Place]:
    first = unlinked["d1"].copy(tmp_path)
    second = Place(tmp_path, district="d2")
    second.clock = first.clock
    return {"d1": first, "d2": second}


def brought_up(places: dict[str, Place], *groups: tuple[str, ...]) -> dict[str, pl.DataFrame]:
    """Every table after a run for each group of districts."""
    home, projections = places["d1"].home, places["d1"].projections
    for group in groups or [DISTRICTS]:
        refresh(places["d1"].log, projections, {each: home.policy(each) for each in group})
    return read_tables(projections)


def agree(places: dict[str, Place], text: str = AGREED) -> None:
    (places["d1"].home.policies / "home.toml").write_text(text)
    for place in places.values():
        place.load()


def started(tables: dict[str, pl.DataFrame]) -> dict[tuple[str, str, str], int]:
    """Tier each student of the second year started a window from: by district, student and window."""
    rows = tables["tier_placement"].filter(school_year="2026").drop_nulls("tier_before")
    keys = ["district_id", "subject_key", "benchmark_window"]
    return {(district, key, window): tier for district, key, window, tier in rows.select(*keys, "tier_before").rows()}


def key(places: dict[str, Place], district: str, who: str) -> str:
    """The key a student of a district is shown under."""
    tests = places[district].events().filter(pl.col("vendor_test_id").str.starts_with(who))
    own = tests["subject_key"][0]
    pairs = places[district].events("identity").drop_nulls("loser_key")
    found = pairs.filter((pl.col("loser_key") == own) | (pl.col("winner_key") == own))
    return str(found["winner_key"][0]) if found.height else str(own)


def test_without_an_agreement_nothing_follows(unlinked: dict[str, Place]):
    places, tables = unlinked, read_tables(unlinked["d1"].projections)
    assert linked(places["d1"].log, places["d1"].log.ledger_rows()).is_empty()
    start = started(tables)
    assert ("d2", key(places, "d2", "moved"), "fall") not in start
    assert ("d2", key(places, "d2", "winter"), "winter") not in start
    assert not places["d1"].events("identity").filter(pl.col("event_type") == "StudentIdentified").height


def test_the_tiers_and_the_fall_of_the_other_district_follow_a_student(places: dict[str, Place]):
    growth = pl.col("benchmark_window") == "winter", pl.col("class_id") == "W"
    assert places["d1"].table("class_growth").filter(growth)["with_fall"].to_list() == [2]
    agree(places)
    tables = brought_up(places)
    assert tables["class_growth"].filter(growth)["with_fall"].to_list() == [3]
    start = started(tables)
    assert start["d2", key(places, "d2", "moved"), "fall"] == 2
    assert start["d2", key(places, "d2", "winter"), "winter"] == 2
    assert start["d1", key(places, "d1", "back"), "fall"] == 2
    assert start["d2", key(places, "d2", "west"), "fall"] == 1, "who stayed starts from their own district"


@pytest.mark.slow
def test_only_what_follows_a_student_is_written_anew(places: dict[str, Place]):
    before = places["d1"].projections.files()
    agree(places)
    brought_up(places)
    changed = {name for name, files in places["d1"].projections.files().items() if set(files) != set(before[name])}
    assert changed == {"tier_placement", "regrouping_proposal", "school_signal", "class_growth"}
    again = places["d1"].projections.files()
    brought_up(places)
    assert places["d1"].projections.files() == again


@pytest.mark.slow
def test_one_by_one_together_and_anew_give_the_same(places: dict[str, Place], tmp_path: Path):
    agree(places)
    one_by_one = brought_up(places, ("d2",), ("d1",))
    home = places["d1"].home
    anew = Projections(str(tmp_path / "anew"))
    refresh(places["d1"].log, anew, {each: home.policy(each) for each in DISTRICTS})
    assert_same(one_by_one, read_tables(anew))
    (home.vault / "secret").write_text(places["d1"].sources().secret.hex())
    (home.vault / "secret").chmod(0o600)
    for districts in (DISTRICTS, ("d1",), ("d2",)):
        assert [each for each in verify_home(home, districts) if not each["is_passed"]] == []


@pytest.mark.slow
def test_a_correction_in_the_old_district_reaches_the_new_one_in_its_own_run(places: dict[str, Place]):
    agree(places)
    brought_up(places)
    places["d1"].load("2025-11-01/map.csv", scores({"winter": 70, "east": 60, "back": 50}))
    start = started(brought_up(places, ("d1",)))
    assert start["d2", key(places, "d2", "winter"), "winter"] == 1


@pytest.mark.slow
def test_turned_off_again_all_is_as_it_was_and_a_past_day_keeps_its_links(places: dict[str, Place], tmp_path: Path):
    before = brought_up(places)
    agree(places)
    moment = places["d1"].clock.now
    during = brought_up(places)
    agree(places, "cross_district_links = false\n")
    assert_same(before, brought_up(places))
    home, past = places["d1"].home, Projections(str(tmp_path / "past"))
    refresh(places["d1"].log, past, {each: home.policy(each) for each in DISTRICTS}, as_of=moment)
    assert_same(during, read_tables(past))
    agree(places)
    assert_same(during, brought_up(places))


@pytest.mark.slow
def test_a_roster_that_comes_later_links_at_the_next_run(places: dict[str, Place]):
    agree(places)
    brought_up(places)
    places["d1"].load("2026-03-01/users.csv", users(["moved", "winter", "east", "back", "west"]))
    found = linked(places["d1"].log, places["d1"].log.ledger_rows())
    assert found.filter(district_id="d2")["subject_key"].n_unique() == 4


def test_students_of_two_districts_are_merged_by_nobody_and_the_setting_is_named(places: dict[str, Place]):
    both = key(places, "d1", "moved"), key(places, "d2", "moved")
    with pytest.raises(NotPossible, match="cross_district_links = true"):
        merge(places["d1"].home, *both, "Said so.", places["d1"].sources())
    agree(places)
    with pytest.raises(NotPossible, match="a state id links their students"):
        merge(places["d1"].home, *both, "Said so.", places["d1"].sources())


def test_no_state_id_stands_in_the_log(places: dict[str, Place]):
    agree(places)
    for table in (*places["d1"].log.families.values(), places["d1"].log.ledger):
        assert "9moved" not in str(table.scan().collect().to_dicts())


def test_links_without_an_agreement_are_refused(places: dict[str, Place]):
    with pytest.raises(UnreadablePolicy, match=r"home\.toml: .*needs agreement"):
        agree(places, "cross_district_links = true\n")


def test_an_id_of_two_students_or_a_student_of_two_ids_links_nobody():
    ids = pl.DataFrame(
        [
            *(("state", "1", "a"), ("user_id:state", " 1", "a"), ("state", "2", "b"), ("state", "3", "b")),
            *(("state", "4", "c"), ("state", "4", "d"), ("local", "5", "e")),
        ],
        schema=["id_type", "id", "subject_key"],
        orient="row",
    )
    assert state_ids(ids, ("state", "user_id:state")).rows() == [("a", "1")]
    hashed = pl.DataFrame(
        [("d1", "a", "x"), ("d2", "A", "x"), ("d1", "b", "y"), ("d2", "B", "y"), ("d2", "C", "y"), ("d2", "D", "z")],
        schema=["district_id", "subject_key", "state_id_hash"],
        orient="row",
    )
    assert links(hashed).rows() == [("d1", "a", "d2", "A"), ("d2", "A", "d1", "a")]


def test_a_time_before_the_agreement_knows_of_no_links(places: dict[str, Place]):
    moment: datetime = places["d1"].clock.now
    agree(places)
    log = places["d1"].log
    assert linked(log, log.ledger_rows(None, moment)).is_empty()
    assert linked(log, log.ledger_rows()).height == 6
