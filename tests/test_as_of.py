"""A past day rebuilt is the run of that day: for random histories, one that never saw what came after (METHOD 5.1)."""

import random
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from pipelines.corrections import NEW, merge, retract, split, unmerge
from pipelines.refresh import refresh
from pipelines.runs import policies_of, rebuild_as_of
from pipelines.statements import NotPossible
from schemas.contract import table_name
from schemas.projections import PROJECTIONS, ScreeningResult, TierPlacement
from tests.homes import POLICY, Place, map_file, map_row, read_tables, users_file
from tests.test_equality import ENROLMENTS, assert_same
from warehouse.projections import PARTITION, Projections
from warehouse.publish import connect

CLASSES = (
    "sourcedId,status,dateLastModified,title,grades,courseSourcedId,classCode,classType,location,schoolSourcedId,"
    "termSourcedIds,subjects,subjectCodes,periods\n"
    "X,active,,,04,,,scheduled,,s1,,Mathematics,02034,1\n"
    "Y,active,,,04,,,scheduled,,s2,,Mathematics,02034,2\n"
)
FULL = 'full_extracts = ["nwea_map_assessment_results"]\n'
ALIAS = '[columns]\nscore = ["Scale"]\n'
AGREED = 'cross_district_links = true\nagreement = "Memorandum of both boards"\n'
YEAR_BEFORE = {"term": "Fall 2024-2025", "day": "09/10/2024"}
STUDENTS = [str(number) for number in range(1, 9)]
Step = Callable[[Place], object]


def roster(number: int, chosen: random.Random) -> str:
    rows = [
        f"e{each},active,,{chosen.choice('XY')},s1,S{each},student,true,2025-08-{20 + number % 5},"
        for each in chosen.sample(STUDENTS, 6)
    ]
    return "\n".join((ENROLMENTS, *rows)) + "\n"


def exported(number: int, chosen: random.Random) -> str:
    """An export of most students; a row of another subject makes its bytes its own."""
    rows = [
        map_row(each, chosen.choice((184, 186, 192, 201)), percentile=chosen.choice((5, 15, 40)))
        for each in sorted(chosen.sample(STUDENTS, chosen.choice((7, 8, 8))))
    ]
    return map_file(*rows, map_row("1", 150 + number, subject="Science K-12", test=f"x{number}"))


def file(name: str, day: int, text: str) -> Step:
    return lambda place: place.load(f"2025-10-{day:02}/{name}", text)


def decided(number: int, minimum: int, full: str = "") -> Step:
    meant = f'retroactive = true\nreason = "Meeting {number}."\n'
    text = f"{POLICY}{meant}{full}[classes]\nclass_minimum = {minimum}\n"
    return lambda place: (place.set_policy(text), place.load())


def renamed(number: int, day: int, chosen: random.Random) -> Step:
    """An export whose score column has another name, and the alias that says so."""
    text = exported(number, chosen).replace("TestRITScore", "Scale", 1)

    def step(place: Place) -> None:
        aliases = place.home.policies / "aliases"
        aliases.mkdir(exist_ok=True)
        (aliases / "nwea_map_assessment_results.toml").write_text(ALIAS)
        place.load(f"2025-10-{day:02}/renamed.csv", text)

    return step


def other(place: Place) -> Place:
    """The other district of the home."""
    made = Place(place.home.root.parent, district="d2")
    made.clock = place.clock
    return made


def elsewhere(number: int, chosen: random.Random) -> Step:
    """What the other district knows of some of the same students: who they are, or how they did the year before."""
    some = sorted(chosen.sample(STUDENTS, 5))
    tests = [map_row(each, 180, percentile=chosen.choice((3, 60)), test=f"o{each}", **YEAR_BEFORE) for each in some]
    science = map_row("1", 150 + number, subject="Science K-12", test=f"y{number}")
    named = ("users.csv", users_file(*some, state="9")), ("map.csv", map_file(*tests, science))
    name, text = named[chosen.random() < 0.5]
    return lambda place: other(place).load(f"2025-10-{2 + number:02}/{name}", text)


def agreed(*, is_on: bool) -> Step:
    """The two districts agree, or no longer do."""

    def step(place: Place) -> None:
        (place.home.policies / "home.toml").write_text(AGREED if is_on else "")
        for each in (place, other(place)):
            each.load()

    return step


def stated(number: int) -> Step:
    """One of the statements that a person may make, about whatever is there; some are refused."""

    def step(place: Place) -> None:
        chosen = random.Random(number)
        events = place.events().sort("event_id")
        if events.is_empty():
            return
        keys = chosen.choices(events["subject_key"].unique().sort().to_list(), k=2)
        event = chosen.choice(events["event_id"].to_list())
        whose = events.filter(event_id=event)["subject_key"].item()
        doing = chosen.choice(("merge", "unmerge", "split", "retract", "retract", "undo"))
        try:
            if doing == "merge":
                merge(place.home, *keys, "Said so.", place.sources())
            elif doing == "unmerge":
                identity = place.events("identity").drop_nulls("loser_key").sort("event_id")
                pair = identity.select("loser_key", "winner_key").row(number % max(1, identity.height))
                unmerge(place.home, *pair, "Said so.", place.sources())
            elif doing == "split":
                split(place.home, whose, NEW, [event], "Said so.", place.sources())
            else:
                retract(place.home, event, "other", undo=doing == "undo", sources=place.sources())
        except (NotPossible, pl.exceptions.OutOfBoundsError):
            return

    return step


def history(seed: int) -> list[Step]:
    """What happened in a district: files in no order of their export, policies, statements."""
    chosen = random.Random(seed)
    steps: list[Step] = [file("classes.csv", 1, CLASSES), file("map.csv", 9, exported(99, chosen))]
    if chosen.random() < 0.7:
        steps.append(file("users.csv", 1, users_file(*STUDENTS, state="9")))
    if chosen.random() < 0.5:
        steps += [elsewhere(number, chosen) for number in range(20, 24)]
        steps.append(agreed(is_on=True))
    for number in range(10):
        kind = chosen.choice((*("tests", "state", "elsewhere") * 3, "roster", "users", "policy", "renamed", "agreed"))
        day = chosen.randint(2, 28)
        if kind == "tests":
            steps.append(file("map.csv", day, exported(number, chosen)))
        elif kind == "roster":
            steps.append(file("enrollments.csv", day, roster(number, chosen)))
        elif kind == "users":
            steps.append(file("users.csv", day, users_file(*chosen.sample(STUDENTS, 7), state="9")))
        elif kind == "renamed":
            steps.append(renamed(number, day, chosen))
        elif kind == "elsewhere":
            steps.append(elsewhere(number, chosen))
        elif kind == "agreed":
            steps.append(agreed(is_on=chosen.random() < 0.7))
        elif kind == "policy":
            steps.append(decided(number, chosen.choice((5, 8, 12)), chosen.choice(("", FULL))))
        else:
            steps.append(stated(seed * 100 + number))
    return steps


@pytest.mark.parametrize("seed", [3, *(pytest.param(each, marks=pytest.mark.slow) for each in range(20) if each != 3)])
def test_a_past_day_is_the_run_that_never_saw_what_came_after(tmp_path: Path, seed: int):
    steps = history(seed)
    cut = random.Random(seed).randint(4, len(steps) - 1)
    whole, short = Place(tmp_path / "whole"), Place(tmp_path / "short")
    for step in steps[:cut]:
        step(whole)
        step(short)
    moment = whole.clock.now
    for step in steps[cut:]:
        step(whole)
    for place in (whole, short):
        refresh(place.log, place.projections, policies_of(place.home))
    past = Projections(str(tmp_path / "past"))
    refresh(whole.log, past, policies_of(whole.home), as_of=moment)
    assert_same(short.tables(), read_tables(past))
    assert short.table("screening_result").height


@pytest.mark.slow
@pytest.mark.parametrize("seed", [10, pytest.param(11, marks=pytest.mark.slow)])
def test_the_same_id_gives_the_same_bytes_on_any_day_and_a_new_one_only_where_something_is_new(
    tmp_path: Path, seed: int
):
    place = Place(tmp_path / "home")
    known: dict[tuple[str, ...], pl.DataFrame] = {}
    moments = []
    for step in [*history(seed), decided(99, 6)]:
        step(place)
        moments.append(place.clock.now)
    for number, moment in enumerate([*moments[3:-2:3], *moments[-2:]]):
        past = Projections(str(tmp_path / str(number)))
        refresh(place.log, past, policies_of(place.home), as_of=moment)
        for contract in PROJECTIONS:
            for key, rows in past.read(contract).collect().partition_by(PARTITION, as_dict=True).items():
                (input_id,) = rows["input_id"].unique()
                before = known.setdefault((table_name(contract), *map(str, key), input_id), rows)
                assert before.equals(rows), f"{table_name(contract)} {key}"
    assert len(known) > len({each[:-1] for each in known}), "nothing that was new gave a new id"


@pytest.fixture(scope="module")
def backfilled(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A year that was received in 2019 and loaded in 2026."""
    place = Place(tmp_path_factory.mktemp("backfilled"))
    old = {"term": "Fall 2019-2020", "day": "09/16/2019", "percentile": ""}
    place.load("2019-09-20/received-2019-10-15/map.csv", map_file(map_row("1", 186, **old), map_row("2", 190, **old)))
    place.load("2019-11-01/received-2019-11-15/map.csv", map_file(map_row("1", 192, **old), map_row("2", 190, **old)))
    return place


def scores_on(place: Place, out: Path, day: str, by: str) -> list[float]:
    moment = datetime.combine(date.fromisoformat(day), datetime.max.time(), UTC)
    outcome = rebuild_as_of(place.home, ["d1"], moment, out, by=by)
    assert outcome.summary()["reconstructed"] == (by == "received")
    return sorted(Projections(str(out / "projections")).read(ScreeningResult).collect()["score"].to_list())


@pytest.mark.parametrize(
    ("day", "by", "scores"),
    [
        ("2019-10-14", "received", []),
        pytest.param("2019-10-15", "received", [186, 190], marks=pytest.mark.slow),
        ("2019-11-15", "received", [190, 192]),
        ("2019-11-15", "recorded", []),
        pytest.param("2026-12-31", "recorded", [190, 192], marks=pytest.mark.slow),
    ],
)
def test_a_backfilled_year_is_known_from_the_day_it_was_received(
    backfilled: Place, tmp_path: Path, day: str, by: str, scores: list[float]
):
    out = tmp_path / "then"
    assert scores_on(backfilled, out, day, by) == scores
    with connect(out / "warehouse.duckdb") as connection:
        (comment,) = connection.execute(
            "select comment from duckdb_tables() where table_name = ?", [table_name(TierPlacement)]
        ).fetchone()
    assert f"As known at {day} 23:59:59 UTC." in comment
    assert ("Reconstructed" in comment) == (by == "received")
