"""A student is erased: from every byte of the home, for good, and nobody else is touched."""

import gzip
import io
import json
import os
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
import xlsxwriter
from click.testing import Result
from typer.testing import CliRunner

from pipelines import cli, erasure
from pipelines.corrections import merge, retract, split, unmerge
from pipelines.erasure import at_work, erase, look, undo_block
from pipelines.explain import ERASED, RIGHTS, explain
from pipelines.refresh import refresh
from pipelines.report.names import read_names
from pipelines.report.site import build_report
from pipelines.reproducible import in_words, not_reproducible
from pipelines.rights import answer, ask, attach_statement, log_disclosure, rights_of
from pipelines.runs import rebuild_as_of
from pipelines.statements import NotPossible
from pipelines.verify import verify_home
from pipelines.work import Work, plausible
from schemas.projections import ScreeningResult
from tests.homes import MAP_HEADER, POLICY, SECRET, Place, map_file, map_row, users_file
from tests.test_corrections import CLASSES, enrolled
from tests.test_equality import assert_same
from warehouse import delta, redaction
from warehouse.alone import alone, together
from warehouse.home import Home, HomeError
from warehouse.publish import connect
from warehouse.redaction import physical_lines
from warehouse.tabular import read_table, sheet_names
from warehouse.vault import Vault

CHILD = "7770013"
STATE = "CO7770013X"
OTHERS = ("7770011", "7770012", "7770014", "7770015")
WHY = "request"
DAY = date(2026, 9, 1)


def row(student: str, **about: object) -> str:
    said = {"score": 180 + int(student[-2:]), "state": f"CO{student}X", "test": f"t{student}"} | about
    return map_row(student, said.pop("score"), **said)  # type: ignore[arg-type]


def referrals(*students: str) -> str:
    """Referrals with a note of two lines each."""
    rows = [f'r{each},{each},,s1,2025-10-02,teacher,fractions,"counts for {each}q\nby ones"' for each in students]
    return "\n".join(("row_id,student_id,state_id,school_id,referred_on,referred_by,concern,note", *rows)) + "\n"


def members(*students: str) -> str:
    """A cycle and its members, one event a line."""
    about = {"school_id": "s1", "cycle_id": "c1"}
    opened = about | {"opened_on": "2025-10-06", "tier": 2, "measure": "m", "planned_sessions": 12}
    lines = [("CycleOpened", opened)]
    for each in students:
        lines.append(("StudentJoined", about | {"student_id": each, "joined_on": "2025-10-06", "baseline": 4}))
    told = [
        {"specversion": "1.0", "id": f"e{number}", "source": "/s1", "type": f"org.tierline.{kind}", "data": data}
        for number, (kind, data) in enumerate(lines)
    ]
    return "".join(f"{json.dumps(each | {'time': '2025-10-06T20:00:00Z'})}\n" for each in told)


def workbook(*students: str) -> bytes:
    """The same tests as a workbook with a second sheet."""
    made = io.BytesIO()
    with xlsxwriter.Workbook(made) as book:
        for name, day in (("Fall", "01/12/2026"), ("More", "01/13/2026")):
            sheet = book.add_worksheet(name)
            lines = [
                MAP_HEADER,
                *(row(each, term="Winter 2025-2026", day=day, test=f"w{name}{each}") for each in students),
            ]
            for number, line in enumerate(lines):
                sheet.write_row(number, 0, line.split(","))
    return made.getvalue()


def new(root: Path) -> Place:
    """A home without a file, that finds its secret by itself."""
    place = Place(root, POLICY)
    (place.home.vault / "secret").write_text(SECRET.hex())
    (place.home.vault / "secret").chmod(0o600)
    return place


def make(root: Path, *students: str) -> Place:
    """A home with these students in two schools, and files of every kind; nothing is loaded yet."""
    place = new(root)
    place.land("2025-09-01/classes.csv", CLASSES)
    place.land("2025-09-01/users.csv", users_file(*students))
    lines = [(each, "X", "2025-08-20", "2025-12-01") for each in students]
    lines += [(each, "Y", "2025-12-02", "") for each in students]
    place.land("2025-09-01/enrollments.csv", enrolled(*lines))
    place.land("2025-09-20/map.csv", map_file(*map(row, students)).encode("utf-16"))
    place.land("2025-10-03/referrals.csv", referrals(*students))
    place.land("2025-10-07/events.jsonl", members(*students))
    place.land("2026-01-20/map.xlsx", workbook(*students))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        tests = [
            row(each, term="Spring 2025-2026", day="05/04/2026", school="Oak", test=f"s{each}") for each in students
        ]
        science = [row(each, subject="Science", test=f"x{each}") for each in students]
        broken = [row(each, score="n/a", test=f"b{each}") for each in students]
        archive.writestr("map.csv", map_file(*tests, *science, *broken))
    place.land("2026-05-20/map.zip", packed.getvalue())
    return place


def run(place: Place) -> None:
    outcome = Work(place.home, place.sources()).run([place.district])
    assert (outcome.exit_code, outcome.failed) == (0, {})


def told_of(place: Place) -> dict[str, pl.DataFrame]:
    """The projections; of what is asked of the files themselves only that they are asked."""
    tables = place.tables()
    tables["quality_result"] = tables["quality_result"].filter(pl.col("stage") != "exports")
    return tables


def texts(path: Path) -> Iterator[bytes]:
    """Everything a file says, unpacked as far as it goes."""
    data = path.read_bytes()
    yield data
    yield data.decode("utf-16", "replace").encode()
    if data.startswith(b"PAR1"):
        yield pl.read_parquet(data).write_ndjson().encode()
    if data.startswith(b"\x1f\x8b"):
        yield gzip.decompress(data)
    if data.startswith(b"PK"):
        with zipfile.ZipFile(path) as archive:
            yield from (archive.read(name) for name in archive.namelist())
    if path.suffix == ".duckdb":
        with connect(path) as connection:
            named = "select table_schema || '.' || table_name from information_schema.tables"
            for (name,) in connection.execute(named).fetchall():
                yield pl.DataFrame(connection.sql(f"select * from {name}")).write_ndjson().encode()


def holding(home: Home, markers: list[str]) -> set[str]:
    """Below the home, the first folder or file of everything that says one of these, in any file."""
    found = set()
    for path in home.root.rglob("*"):
        if path.is_file() and any(marker.encode() in text for text in texts(path) for marker in markers):
            found.add(path.relative_to(home.root).parts[0])
    return found


def hashes_of(place: Place, keys: set[str]) -> list[str]:
    """Natural keys and ids of every event of these keys."""
    parts = [
        table.scan().filter(pl.col("subject_key").is_in(keys)).select("natural_key", "event_id").collect()
        for table in place.log.families.values()
    ]
    rows = pl.concat(parts)
    return [*rows["natural_key"].unique(), *rows["event_id"].unique()]


def keys_of(place: Place, student: str = CHILD) -> set[str]:
    """Every key under which the vault knows a student."""
    with closing(sqlite3.connect(place.home.vault / "vault.sqlite")) as vault:
        rows = vault.execute("select subject_key from subject_id where id like ?", (f"%{student}%",)).fetchall()
    return {key for (key,) in rows}


def passes(place: Place) -> None:
    """The log agrees with its hashes, the ledger with its files, the projections with a rebuild."""
    results = verify_home(place.home, [place.district], plausible=plausible)
    assert [each["rule"] for each in results if not each["is_passed"]] == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Loaded and published."""
    place = make(tmp_path_factory.mktemp("whole"), *OTHERS[:2], CHILD, *OTHERS[2:])
    run(place)
    return place


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The same home, which never had the child's rows."""
    place = make(tmp_path_factory.mktemp("without"), *OTHERS)
    run(place)
    return place


@pytest.mark.slow
def test_no_byte_of_an_erased_student_is_left_and_the_tables_are_as_if_there_had_been_none(
    whole: Place, without: Place, tmp_path: Path
):
    place = whole.copy(tmp_path)
    keys = keys_of(place)
    key = min(keys)
    attach_statement(place.home, key, f"{CHILD} counts on", DAY, place.sources())
    log_disclosure(place.home, key, "consent", f"The tutor of {CHILD}", DAY, place.sources())
    for with_names in (False, True):
        build_report(place.home, place.district, with_names=with_names)
    markers = [CHILD, *keys, *hashes_of(place, keys)]
    held = {"archive", "log", "notes", "projections", "reports", "vault", "warehouse.duckdb"}
    assert holding(place.home, markers) == held
    told = erase(place.home, CHILD, WHY, sources=place.sources())
    assert holding(place.home, markers) == set()
    assert CHILD not in repr(told)
    assert (told["archived_files_rewritten"], told["disclosures"], told["files_in_landing"]) == (8, 1, 0)
    assert_same(told_of(without), told_of(place))
    passes(place)
    run(place)
    assert_same(told_of(without), told_of(place))


# A home that is quick to load


def small(root: Path, *students: str) -> Place:
    """Enrolments, a test and a referral of each student, loaded and computed; no warehouse."""
    place = Place(root, POLICY)
    (place.home.vault / "secret").write_text(SECRET.hex())
    (place.home.vault / "secret").chmod(0o600)
    place.land("2025-09-01/users.csv", users_file(*students))
    place.land("2025-09-01/enrollments.csv", enrolled(*((each, "X", "2025-08-20", "") for each in students)))
    place.land("2025-09-20/map.csv", map_file(*map(row, students)))
    place.land("2025-10-03/referrals.csv", referrals(*students))
    place.load()
    place.refresh()
    return place


@pytest.fixture(scope="module")
def loaded_place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return small(tmp_path_factory.mktemp("small"), *OTHERS[:2], CHILD, *OTHERS[2:])


@pytest.fixture
def place(loaded_place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A copy; what Great Expectations says of it is asked elsewhere."""
    monkeypatch.setattr("pipelines.work.plausible", None)
    return loaded_place.copy(tmp_path)


@pytest.fixture(scope="module")
def never(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pl.DataFrame]:
    """Projections of the small home without the child."""
    return small(tmp_path_factory.mktemp("never"), *OTHERS).tables()


def export(day: str, *students: str, **about: object) -> tuple[str, str]:
    return f"{day}/map.csv", map_file(*(row(each, **about) for each in students))


def outcomes(place: Place) -> dict[str, int]:
    """Rows of the file that was loaded last, by outcome."""
    last = place.ledger().filter(pl.col("layout") != "statement").tail(1)
    return {name: last[name].item() for name in ("parsed", "erased", "parked", "rejected") if last[name].item()}


def test_an_erased_student_is_gone_and_stays_away_also_where_the_erasure_was_killed(
    place: Place, never: dict[str, pl.DataFrame], monkeypatch: pytest.MonkeyPatch
):
    keys = keys_of(place)
    markers = [CHILD, *keys, *hashes_of(place, keys)]
    assert holding(place.home, markers) == {"archive", "log", "notes", "projections", "vault"}
    assert killed_at(place, 21, monkeypatch)
    assert holding(place.home, markers)
    with at_work(place.home):
        pass
    assert holding(place.home, markers) == set()
    assert_same(never, place.tables())
    place.load(*export("2025-10-20", *OTHERS, CHILD, score=200))
    assert outcomes(place) == {"parsed": 4, "erased": 1}
    assert holding(place.home, markers) == set()
    passes_log(place)


@pytest.mark.slow
def test_the_next_export_brings_a_student_back_whose_block_is_lifted(place: Place):
    erase(place.home, CHILD, WHY, sources=place.sources())
    lifted = undo_block(place.home, CHILD, "enrolled_again", sources=place.sources())
    assert lifted["erasures_undone"] == 1
    place.load("2025-11-01/users.csv", users_file(*OTHERS, CHILD))
    place.load(*export("2025-11-20", *OTHERS, CHILD, score=201))
    assert outcomes(place) == {"parsed": 5}
    place.refresh()
    assert place.table("screening_result")["subject_key"].n_unique() == 5
    passes_log(place)


def passes_log(place: Place) -> None:
    """The log agrees with its hashes and the ledger with its files."""
    results = verify_home(place.home, [place.district])
    assert [each["rule"] for each in results if not each["is_passed"] and each["rule"] != "projections"] == []


# Killed


class Killed(BaseException):
    """The process ends here."""


POINTS = (
    (erasure, "sync"),
    (erasure, "_drop"),
    (erasure, "copy_without"),
    (erasure, "refresh"),
    (erasure, "_rewrite_reports"),
    (Vault, "block"),
    (Vault, "forget"),
    (delta, "take_place"),
)
"""What is killed: before each call of one of these."""


def killed_at(place: Place, number: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Erase and be killed before a call; whether there was one of that number."""
    left = [number]
    with monkeypatch.context() as patch:
        for owner, name in POINTS:
            patch.setattr(owner, name, counting(getattr(owner, name), left))
        try:
            erase(place.home, CHILD, WHY, sources=place.sources())
        except Killed:
            return True
    return False


def counting(call: Callable[..., object], left: list[int]) -> Callable[..., object]:
    def counted(*given: object, **named: object) -> object:
        if not left[0]:
            raise Killed
        left[0] -= 1
        return call(*given, **named)

    return counted


@pytest.mark.slow
@pytest.mark.parametrize("number", range(60))
def test_an_erasure_that_is_killed_is_finished_or_undone_by_the_next_command(
    place: Place, never: dict[str, pl.DataFrame], number: int, monkeypatch: pytest.MonkeyPatch
):
    keys = keys_of(place)
    markers = [CHILD, *keys, *hashes_of(place, keys)]
    before = place.tables()
    if not killed_at(place, number, monkeypatch):
        pytest.skip("an erasure has fewer steps")
    with at_work(place.home):
        pass
    if holding(place.home, markers):  # nothing was decided yet
        assert_same(before, place.tables())
        assert keys_of(place) == keys
        erase(place.home, CHILD, WHY, sources=place.sources())
    assert holding(place.home, markers) == set()
    assert_same(never, place.tables())
    passes_log(place)


KILLED = """
import os, signal, sys
from pathlib import Path
from pipelines import erasure
from tests.homes import SECRET
from pipelines.loading import Sources
from warehouse import delta
from warehouse.home import Home
left, real = int(sys.argv[3]), delta.take_place
def killing(*given):
    global left
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    real(*given)
delta.take_place = killing
erasure.erase(Home(Path(sys.argv[1])), sys.argv[2], "request", sources=Sources(secret=SECRET))
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 3, 7, 12])
def test_a_killed_process_lets_go_of_the_home(place: Place, never: dict[str, pl.DataFrame], number: int):
    markers = [CHILD, *keys_of(place)]
    command = [sys.executable, "-c", KILLED, str(place.home.root), CHILD, str(number)]
    ended = subprocess.run(command, env=os.environ | {"PYTHONPATH": "."}, capture_output=True, check=False)
    assert ended.returncode == -9, ended.stderr
    place.load(*export("2025-10-20", *OTHERS, CHILD))
    with at_work(place.home):
        pass
    assert holding(place.home, markers) == set()
    assert outcomes(place)["erased"] == 1


def test_an_erasure_waits_for_a_run_and_a_run_for_an_erasure(tmp_path: Path):
    home = Home(tmp_path).make()
    with together(home), together(home), pytest.raises(HomeError, match="Wait for it to end"), alone(home, 0.2):
        pass
    with alone(home), together(home):  # what an erasure calls does not wait for it
        pass


# Who


@pytest.mark.slow
def test_merged_students_go_together(place: Place, tmp_path: Path):
    other = OTHERS[3]
    one, two = shown(place, CHILD), shown(place, other)
    merge(place.home, one, two, f"{CHILD} has two cards", place.sources())
    retract(place.home, event_of(place, other), "other", note=f"not {other}", sources=place.sources())
    place.refresh()
    keys = keys_of(place) | keys_of(place, other)
    markers = [CHILD, other, *keys, *hashes_of(place, keys)]
    told = erase(place.home, max(one, two), WHY, sources=place.sources())
    assert (told["subject_keys"], told["notes"]) == (4, 4)
    assert holding(place.home, markers) == set()
    passes_log(place)
    assert_same(small(tmp_path / "never", *OTHERS[:3]).tables(), place.tables())
    place.load(*export("2025-10-20", *OTHERS, CHILD))
    assert outcomes(place) == {"parsed": 3, "erased": 2}


@pytest.mark.slow
def test_a_merge_that_was_taken_back_takes_nobody_else_along(place: Place, never: dict[str, pl.DataFrame]):
    one, two = shown(place, CHILD), shown(place, OTHERS[0])
    merge(place.home, one, two, "The office erred.", place.sources())
    unmerge(place.home, one, two, "It did.", place.sources())
    erase(place.home, CHILD, WHY, sources=place.sources())
    assert_same(never, place.tables())
    assert holding(place.home, [CHILD, one]) == set()


@pytest.mark.slow
def test_what_was_moved_to_another_student_stays_there(place: Place, never: dict[str, pl.DataFrame]):
    split(
        place.home,
        shown(place, CHILD),
        shown(place, OTHERS[0]),
        [event_of(place, CHILD)],
        "It was not.",
        place.sources(),
    )
    told = erase(place.home, CHILD, WHY, sources=place.sources())
    assert told["facts_moved_to_others"] == 1
    tests = place.table("screening_result")
    assert tests["subject_key"].n_unique() == 4
    assert tests.height == 5
    assert_same(
        {"school": never["school"], "class_membership": never["class_membership"].drop("input_id")},
        {"school": place.table("school"), "class_membership": place.table("class_membership").drop("input_id")},
    )


@pytest.mark.slow
def test_what_was_moved_from_another_student_goes_and_stays_away(place: Place):
    other = OTHERS[0]
    moved = event_of(place, other)
    split(place.home, shown(place, other), shown(place, CHILD), [moved], "It was the child's.", place.sources())
    erase(place.home, CHILD, WHY, sources=place.sources())
    assert holding(place.home, [moved, f"t{other}"]) == set()
    place.load(*export("2025-10-20", *OTHERS, score=199))
    assert outcomes(place) == {"parsed": 3, "erased": 1}
    assert holding(place.home, [f"t{other}"]) == set()
    place.refresh()
    assert place.table("screening_result")["subject_key"].n_unique() == 3


@pytest.mark.slow
def test_a_student_whom_no_roster_has_is_erased_and_a_later_roster_brings_nobody_back(tmp_path: Path):
    def rosterless(root: Path, *students: str) -> Place:
        made = Place(root)
        made.load(*export("2025-09-20", *students))
        made.refresh()
        return made

    place, never = rosterless(tmp_path / "a", *OTHERS, CHILD), rosterless(tmp_path / "b", *OTHERS)
    markers = [CHILD, *keys_of(place)]
    erase(place.home, CHILD, WHY, sources=place.sources())
    assert holding(place.home, markers) == set()
    for each, students in ((place, (*OTHERS, CHILD)), (never, OTHERS)):
        each.load("2025-10-01/users.csv", users_file(*students))
        each.load(*export("2025-10-20", *students, score=199))
        refresh(each.log, each.projections, {each.district: each.home.policy(each.district)}, plausible=plausible)
    assert_same(told_of(never), told_of(place))
    assert holding(place.home, [CHILD]) == set()


@pytest.mark.slow
def test_a_parked_row_of_an_erased_student_no_longer_waits_and_the_others_still_do(place: Place):
    stranger, waiting = "7770099", "7770098"
    place.load(*export("2025-10-20", *OTHERS, CHILD, stranger, waiting, score=190))
    assert outcomes(place) == {"parsed": 5, "parked": 2}
    erase(place.home, stranger, WHY, sources=place.sources())
    assert holding(place.home, [stranger]) == set()
    assert outcomes(place) == {"erased": 1, "parked": 1}
    passes_log(place)
    place.load("2025-11-01/users.csv", users_file(*OTHERS, CHILD, stranger, waiting))
    assert outcomes(place) == {"parsed": 1}
    passes_log(place)
    assert holding(place.home, [stranger]) == set()


@pytest.mark.slow
def test_an_id_that_stood_in_files_alone_is_blocked_too(place: Place):
    lines = (Path(__file__).parent / "exports" / "fastbridge_amath.csv").read_text("utf-8").splitlines()[:4]
    for old, new in zip(("41001,900001", "41002,900002", "41003,900003"), (*OTHERS[:2], f",{STATE}"), strict=True):
        lines = [line.replace(old, new if "," in new else f"{new},") for line in lines]
    assert sum(STATE in line for line in lines) == 1
    erase(place.home, CHILD, WHY, sources=place.sources())
    place.load("2025-10-20/amath.csv", "\n".join(lines) + "\n")
    assert outcomes(place)["erased"] == 1
    assert holding(place.home, [STATE]) == set()


@pytest.mark.slow
def test_a_file_that_is_landed_again_is_the_file_it_was(place: Place):
    erase(place.home, CHILD, WHY, sources=place.sources())
    again = export("2025-09-20", *OTHERS[:2], CHILD, *OTHERS[2:])[1]
    for name in ("map.csv", "another.csv"):
        report = place.load(f"2025-09-20/{name}", again)
        assert (report.rows, report.unchanged_files) == ([], 1)
        assert holding(place.home, [CHILD]) == set()
    erase(place.home, OTHERS[0], WHY, sources=place.sources())
    assert holding(place.home, [OTHERS[0], CHILD]) == set()
    passes_log(place)


@pytest.mark.slow
def test_the_ids_of_another_district_are_another_students(place: Place, tmp_path: Path):
    other = Place(tmp_path / "other", district="d2")
    (place.home.policies / "d2.toml").write_text(POLICY)
    other.home = place.home
    other.clock = place.clock
    other.load("2025-09-01/users.csv", users_file(*OTHERS, CHILD))
    other.load(*export("2025-09-20", *OTHERS, CHILD))
    other.refresh()
    with pytest.raises(NotPossible, match="students are known by this id"):
        look(place.home, CHILD, sources=place.sources())
    before = other.projections.read(ScreeningResult, ["d2"]).collect()
    erase(place.home, CHILD, WHY, district="d1", sources=place.sources())
    assert other.projections.read(ScreeningResult, ["d2"]).collect().equals(before)
    assert other.load(*export("2025-10-20", *OTHERS, CHILD, score=199)).rows[0]["parsed"] == 5


def shown(place: Place, student: str) -> str:
    """The key a student is shown under."""
    tests = place.projections.read(ScreeningResult).collect()
    return str(tests.filter(pl.col("natural_key") == natural_key(place, student))["subject_key"].item())


def natural_key(place: Place, student: str) -> str:
    return str(place.events().filter(pl.col("vendor_test_id") == f"t{student}")["natural_key"][0])


def event_of(place: Place, student: str) -> str:
    return str(place.events().filter(pl.col("vendor_test_id") == f"t{student}")["event_id"][0])


# What a family may ask


def test_nothing_is_erased_while_a_request_is_open(place: Place):
    key = shown(place, CHILD)
    asked = [ask(place.home, kind, key, DAY, None, place.sources()) for kind in ("inspection", "amendment")]
    with pytest.raises(NotPossible, match="2 requests of this student are open"):
        erase(place.home, CHILD, WHY, sources=place.sources())
    answer(place.home, "inspection", key, asked[0]["case"], "answered", DAY, None, place.sources())
    with pytest.raises(NotPossible, match="not a decision of the list: granted, refused"):
        answer(place.home, "amendment", key, asked[1]["case"], "answered", DAY, None, place.sources())
    with pytest.raises(NotPossible, match="No open request"):
        answer(place.home, "inspection", key, asked[0]["case"], "answered", DAY, None, place.sources())
    answer(place.home, "amendment", key, asked[1]["case"], "refused", DAY, "The score is right.", place.sources())
    assert look(place.home, CHILD, sources=place.sources()).told["notes"] == 2


@pytest.mark.slow
def test_a_statement_is_seen_wherever_the_record_is_explained_and_its_text_nowhere(place: Place):
    key = shown(place, CHILD)
    attach_statement(place.home, key, "We do not agree.", DAY, place.sources())
    sections = explain(place.home, "student", key)
    assert next(iter(sections)) == RIGHTS
    assert sections[RIGHTS]["event_type"].to_list() == ["StatementAttached"]
    assert RIGHTS not in explain(place.home, "student", shown(place, OTHERS[0]))
    names = read_names(place.home, place.district).students
    assert sum(name.endswith("(a statement is attached)") for name in names.values()) == 1
    assert holding(place.home, ["We do not agree."]) == {"notes"}


def test_disclosures_are_listed_with_whom_they_went_to(place: Place):
    key = shown(place, CHILD)
    log_disclosure(place.home, key, "new_school", "Oak Middle School, placement", DAY, place.sources())
    with pytest.raises(NotPossible, match="not a basis of the list"):
        log_disclosure(place.home, key, "curiosity", "Somebody", DAY, place.sources())
    rows = rights_of(place.home, key, "DisclosureLogged", with_text=True)
    assert rows.select("basis", "occurred_on", "text").rows() == [("new_school", DAY, "Oak Middle School, placement")]
    assert rights_of(place.home, shown(place, OTHERS[0])).is_empty()


# What is said of the past


@pytest.mark.slow
def test_a_day_before_an_erasure_is_no_longer_reproducible(place: Place, tmp_path: Path):
    moment = place.clock()
    erase(place.home, CHILD, WHY, sources=place.sources())
    for as_of, is_reproducible in ((moment, False), (place.clock(), True)):
        out = tmp_path / str(is_reproducible)
        told = rebuild_as_of(place.home, ["d1"], as_of, out)
        assert told.summary()["reproducible"] is is_reproducible
        with connect(out / "warehouse.duckdb") as connection:
            comments = {comment for (comment,) in connection.execute("select comment from duckdb_tables()").fetchall()}
        assert all(("by reason of erasure: d1." in comment) != is_reproducible for comment in comments)
    explained = explain(place.home, "student", shown(place, OTHERS[0]))[ERASED]
    assert explained.select("is_reproducible", "reason", "students").rows() == [(False, "erasure", None)]


def test_how_many_were_erased_is_told_from_ten_on():
    ledger = pl.DataFrame({"district_id": ["d1"] * 10 + ["d2"] * 9}).with_columns(
        layout=pl.lit("statement"), file=pl.lit("tierline erase"), recorded_at=pl.lit(datetime(2026, 9, 1, tzinfo=UTC))
    )
    told = not_reproducible(ledger)
    assert told["students"].to_list() == [10, None]
    assert in_words(told) == "Not reproducible, by reason of erasure: d1 (10 students), d2."
    assert in_words(not_reproducible(ledger, datetime(2026, 9, 1, tzinfo=UTC))) == ""


# The command


def command(place: Place, *given: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(cli.app, [*given, "--home", str(place.home.root)], input=typed)


def test_the_command_asks_first_and_says_numbers_alone(place: Place):
    told = command(place, "erase", "-", "--reason", WHY, typed=f"{CHILD}\nn\n")
    assert told.exit_code == 1
    assert "Erase this student for good?" in told.output
    assert CHILD not in told.output
    assert keys_of(place)
    for given, words in (
        (("erase", CHILD, "--reason", "because"), "request, contract_end"),
        (("erase", "7779999", "--reason", WHY), "Nobody is known"),
        (("erase", CHILD, "--undo-block", "--reason", "other"), "Nobody with this id is on the block list"),
        (("erase", CHILD), "Missing option '--reason'"),
    ):
        refused = command(place, *given, "--yes")
        assert refused.exit_code
        assert words in refused.output
        assert CHILD not in refused.output


@pytest.mark.slow
def test_the_command_erases_and_lets_in_again(place: Place):
    done = command(place, "erase", CHILD, "--reason", WHY, "--yes", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["district_id"] == "d1"
    assert keys_of(place) == set()
    lifted = command(place, "erase", CHILD, "--reason", "erased_by_mistake", "--undo-block", "--json")
    assert json.loads(lifted.output) == {"districts": ["d1"], "erasures_undone": 1}


def test_a_store_that_has_no_folders_is_refused(place: Place):
    elsewhere = Home(place.home.root, log="s3://bucket/log")
    with pytest.raises(NotPossible, match="object store"):
        erase(elsewhere, CHILD, WHY, sources=place.sources())


# Copies of files


def test_lines_stay_where_they_were_in_a_copy_without_some_records():
    text = b'id,note\r\n1,"a\r\nb"\r\n2,c\r\n\r\n3,"d\ne"\r\n4,f'
    table = read_table(text, "t.csv")
    starts = table.rows["source_line"].to_list()
    lines = physical_lines(text, [2, 6], starts)
    assert lines == [2, 3, 6, 7]
    kept = read_table(redaction.without(text, lines), "t.csv").rows
    assert kept.equals(table.rows.filter(pl.col("c0").is_in(["2", "4"])))


@pytest.mark.parametrize("code", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_a_copy_keeps_the_encoding(code: str):
    text = "id,name\n1,Zoë\n2,Noël\n3,Ana\n".encode(code)
    kept = read_table(redaction.without(text, [2]), "t.csv")
    assert kept.rows["c1"].to_list() == ["Noël", "Ana"]
    assert kept.encoding == read_table(text, "t.csv").encoding
    assert b"Zo" not in redaction.without(text, [2]).replace(b"\0", b"")


def test_a_copy_of_a_workbook_has_its_cells_and_nothing_else():
    made = io.BytesIO()
    with xlsxwriter.Workbook(made) as book:
        for name in ("A & B", "Two", "Hidden"):
            sheet = book.add_worksheet(name)
            sheet.write_row(1, 1, ["id", "name", "score"])
            sheet.write_row(2, 1, ["1", "Zoë <x>", 3.5])
            sheet.write_comment(2, 1, "of Zoë")
            sheet.write_row(4, 1, ["2", 'He said "&"', None, "2026-01-12"])
        book.worksheets()[2].hide()
    data = made.getvalue()
    copy = redaction.workbook_without(data, {"A & B": [3]})
    assert sheet_names(copy) == ["A & B", "Two"]
    assert read_table(copy, "b.xlsx!Two").rows.equals(read_table(data, "b.xlsx!Two").rows)
    before = read_table(data, "b.xlsx!A & B").rows
    assert read_table(copy, "b.xlsx!A & B").rows.equals(before.filter(pl.col("source_line") != 3))
    with zipfile.ZipFile(io.BytesIO(copy)) as archive:
        assert all("of Zo" not in archive.read(name).decode() for name in archive.namelist())


def test_what_links_the_student_to_other_districts_goes_too(tmp_path: Path):
    place = new(tmp_path)
    (place.home.policies / "home.toml").write_text('cross_district_links = true\nagreement = "of the boards"\n')
    place.load("2025-09-01/users.csv", users_file(CHILD, *OTHERS[:2], state="9"))
    place.load("2025-09-20/map.csv", map_file(*map(row, (CHILD, *OTHERS[:2]))))
    own = identified(place).filter(pl.col("subject_key").is_in(keys_of(place)))
    assert own.height == 1
    markers = [*own["state_id_hash"], *own["event_id"], *keys_of(place)]
    assert holding(place.home, markers)
    erase(place.home, CHILD, WHY, sources=place.sources())
    assert holding(place.home, markers) == set()
    assert identified(place).height == 2


def identified(place: Place) -> pl.DataFrame:
    """State ids in the log."""
    rows = place.log.families["identity"].scan()
    return rows.filter(pl.col("event_type") == "StudentIdentified").collect()
