"""Machines that fail: a full or read-only disk, a file still being written, two runs at once, a clock that steps back.

Each gives a clear error or waits, nothing is lost, and the next run finishes.
"""

import errno
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest

from pipelines import reading, refresh, work
from pipelines.work import REFRESH, Outcome, Work
from tests.homes import Place, map_file, map_row, users_file
from warehouse import vault as vaults
from warehouse.delta import Table
from warehouse.faults import BROKEN, FORBIDDEN, FULL, READ_ONLY, disk_fault, reason
from warehouse.log import Log
from warehouse.publish import connect
from warehouse.vault import Vault, VaultError

STUDENTS = [str(number) for number in range(101, 113)]
DAY = "2025-10-01/map.csv"


def export_of(*scores: int) -> str:
    """A test of each student, with one score for all, and more tests with the other scores."""
    return map_file(
        *(map_row(each, score, test=f"{each}-{score}") for score in scores for each in STUDENTS),
    )


@pytest.fixture(scope="module")
def stood(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A home with a roster; only looked at."""
    place = Place(tmp_path_factory.mktemp("stood"))
    place.load("2025-09-01/users.csv", users_file(*STUDENTS))
    return place


@pytest.fixture
def place(stood: Place, tmp_path: Path) -> Place:
    """A copy, with a file of tests that is not loaded yet."""
    made = stood.copy(tmp_path)
    made.land(DAY, export_of(186))
    return made


@pytest.fixture(autouse=True)
def only_ours(monkeypatch: pytest.MonkeyPatch):
    """Great Expectations only reads, and takes seconds to import."""
    monkeypatch.setattr(work, "plausible", None)
    monkeypatch.setattr(work, "_expect_news", lambda: None)
    monkeypatch.setattr(Work, "look_at_warehouse", lambda self: None)


def run(place: Place) -> Outcome:
    return Work(place.home, place.sources()).run([place.district])


def load(place: Place) -> Outcome:
    return Work(place.home, place.sources()).run([place.district], {"exports", "events"})


def assert_loaded(place: Place, *scores: float) -> None:
    """The next load ends well, and every row is there once."""
    outcome = load(place)
    assert (outcome.failed, outcome.held) == ({}, {})
    assert place.current_scores() == sorted(scores * len(STUDENTS))
    assert place.events()["event_id"].n_unique() == place.events().height


def assert_finished(place: Place, *scores: float) -> None:
    """The next run ends well, every row is there once, and in the published file."""
    outcome = run(place)
    assert (outcome.failed, outcome.held) == ({}, {})
    assert_loaded(place, *scores)
    with connect(place.home.warehouse) as shown:
        rows = shown.execute("select count(*) from projections.screening_result").fetchone()
    assert rows == (len(scores) * len(STUDENTS),)
    assert not list(place.home.root.glob(".*.building/*"))


# What is said


def chained(error: Exception) -> Exception:
    """As whoever wraps an error raises it."""
    try:
        try:
            raise error
        except Exception as inner:
            raise RuntimeError("wrapped") from inner
    except RuntimeError as outer:
        return outer


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "cell"), FULL),
        (OSError(errno.EDQUOT, "cell"), FULL),
        (OSError(errno.EROFS, "cell"), READ_ONLY),
        (PermissionError(errno.EACCES, "cell"), FORBIDDEN),
        (OSError(errno.EIO, "cell"), BROKEN),
        (OSError("Unable to copy data: No space left on device (os error 28)"), FULL),
        (duckdb.IOException('Could not write file "w": No space left on device'), FULL),
        (pl.exceptions.ComputeError("IO error: Read-only file system (os error 30)"), READ_ONLY),
        (chained(OSError(errno.ENOSPC, "cell")), FULL),
        (OSError(errno.ENOENT, "No such file"), None),
        (ValueError("a cell"), None),
    ],
    ids=str,
)
def test_a_fault_of_the_disk_is_told_from_others(error: Exception, told: str | None):
    assert disk_fault(error) == told
    assert reason(error) == (told or type(error).__name__)


def test_a_fault_of_the_disk_that_sqlite_meets_is_told(tmp_path: Path):
    with closing(sqlite3.connect(tmp_path / "v", isolation_level=None)) as database:
        database.execute("pragma max_page_count = 2")
        database.execute("create table t (x)")
        with pytest.raises(sqlite3.Error) as full:
            database.execute("insert into t values (zeroblob(100000))")
    assert disk_fault(full.value) == FULL
    with (
        closing(sqlite3.connect(f"file:{tmp_path}/v?mode=ro", uri=True)) as database,
        pytest.raises(sqlite3.Error) as closed,
    ):
        database.execute("insert into t values (1)")
    assert disk_fault(closed.value) == READ_ONLY


# A full disk


def mounted(*arguments: object) -> None:
    told = subprocess.run(["mount", *map(str, arguments)], capture_output=True, check=False)
    if told.returncode:
        pytest.skip("needs a disk of its own: this user may not mount one (root may)")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 12 MB in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted("-t", "tmpfs", "-o", "size=12m", "tmpfs", folder)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path, but: int) -> Path:
    """Take what is free but so many bytes."""
    path = disk / "filling"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC
        file.truncate(file.tell() - but)
    return path


@pytest.mark.parametrize("free", [0, 60_000])
def test_a_load_on_a_full_disk_says_so_and_ends_once_there_is_room(stood: Place, disk: Path, free: int):
    place = stood.copy(disk)
    place.land(DAY, export_of(186))
    filling = fill(disk, free)
    assert FULL in load(place).failed["d1"]
    assert place.current_scores() == []
    filling.unlink()
    assert_loaded(place, 186)
    assert place.ledger()["status"].to_list() == ["loaded", "loaded"]


@pytest.mark.slow
@pytest.mark.parametrize("free", [*range(0, 500_000, 100_000), *range(500_000, 4_000_000, 500_000)])
def test_a_run_on_a_full_disk_says_so_loses_nothing_and_ends_once_there_is_room(stood: Place, disk: Path, free: int):
    place = stood.copy(disk)
    place.land(DAY, export_of(186))
    filling = fill(disk, free)
    failed = run(place).failed
    assert failed == {} or FULL in failed["d1"], failed
    if place.home.warehouse.exists():
        connect(place.home.warehouse).close()
    filling.unlink()
    assert_finished(place, 186)
    assert place.ledger()["status"].to_list() == ["loaded", "loaded"]


# A read-only disk


@pytest.fixture
def read_only(place: Place) -> Iterator[Callable[[Path], None]]:
    """Make a folder of the home read-only, as a disk is that was mounted so; even root cannot write then."""
    folders: list[Path] = []

    def close(folder: Path) -> None:
        mounted("--bind", folder, folder)
        folders.append(folder)
        mounted("-o", "remount,ro,bind", folder)

    yield close
    for folder in reversed(folders):
        subprocess.run(["umount", "-l", str(folder)], check=True)


def opened(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,rw,bind", str(folder)], check=True)


@pytest.mark.parametrize("folder", ["", "vault", "log", "archive"])
def test_a_read_only_folder_is_said_and_the_next_load_ends(
    place: Place, read_only: Callable[[Path], None], folder: str
):
    closed = place.home.root / folder
    read_only(closed)
    assert READ_ONLY in load(place).failed["d1"]
    assert (place.landing / DAY).exists()
    opened(closed)
    assert_loaded(place, 186)


@pytest.mark.slow
def test_read_only_projections_are_said_and_the_next_run_ends(place: Place, read_only: Callable[[Path], None]):
    closed = Path(place.home.projections)
    closed.mkdir()
    read_only(closed)
    assert READ_ONLY in run(place).failed["d1"]
    opened(closed)
    assert_finished(place, 186)


@pytest.mark.slow
def test_a_warehouse_that_cannot_be_written_keeps_the_one_before(place: Place, read_only: Callable[[Path], None]):
    assert_finished(place, 186)
    place.land("2025-10-08/map.csv", export_of(190))
    read_only(place.home.root)
    for folder in ("log", "vault", "projections", "archive", "notes", "landing"):
        inside = place.home.root / folder
        mounted("--bind", inside, inside)
        opened(inside)
    try:
        told = run(place).failed["d1"]
        assert "warehouse.duckdb" in told
        assert READ_ONLY in told
        with connect(place.home.warehouse) as shown:
            assert shown.execute("select count(*) from projections.screening_result").fetchone() == (12,)
    finally:
        for folder in ("log", "vault", "projections", "archive", "notes", "landing"):
            subprocess.run(["umount", "-l", str(place.home.root / folder)], check=True)
    opened(place.home.root)
    assert_finished(place, 186, 190)


def test_what_lies_in_a_read_only_landing_folder_is_loaded_once(place: Place, read_only: Callable[[Path], None]):
    read_only(place.home.landing)
    assert_loaded(place, 186)
    assert (place.landing / DAY).exists()
    again = place.load()
    assert (again.rows, again.unchanged_files) == ([], 1)


# A file that is being written


def when_read(monkeypatch: pytest.MonkeyPatch, doing: Callable[[], object], where: str = "parse") -> None:
    """Do something once, in the middle of reading a file or right after its ledger row."""
    done: list[object] = []

    def once() -> None:
        if not done:
            done.append(doing())

    if where == "parse":
        read = reading.read_table
        monkeypatch.setattr(reading, "read_table", lambda *given: (read(*given), once())[0])
    else:
        record = Log.record
        monkeypatch.setattr(Log, "record", lambda self, row: (record(self, row), once()))


def grow(place: Place) -> None:
    with (place.landing / DAY).open("a") as file:
        file.write("\n".join(export_of(190).splitlines()[1:]) + "\n")


def test_a_file_that_grows_while_it_is_read_is_held_and_read_whole_by_the_next_run(
    place: Place, monkeypatch: pytest.MonkeyPatch
):
    when_read(monkeypatch, lambda: grow(place))
    (row,) = place.load().rows
    assert (row["status"], row["held_rule"]) == ("held", "changing_file")
    assert row["message"] == f"{DAY}: the file changed since it was found. Run again once it is complete."
    assert place.current_scores() == []
    assert_loaded(place, 186, 190)


def test_a_file_that_was_only_touched_is_read_by_the_next_run(place: Place, monkeypatch: pytest.MonkeyPatch):
    when_read(monkeypatch, (place.landing / DAY).touch)
    assert [row["held_rule"] for row in place.load().rows] == ["changing_file"]
    assert_loaded(place, 186)


def test_what_a_file_gained_after_it_was_read_is_of_the_next_run(place: Place, monkeypatch: pytest.MonkeyPatch):
    before = (place.landing / DAY).read_bytes()
    when_read(monkeypatch, lambda: grow(place), "ledger")
    report = place.load()
    assert (report.files("loaded"), report.refused) == (1, [])
    assert [path.read_bytes() for path in place.home.archive.rglob("map.csv")] == [before]
    assert (place.landing / DAY).exists()
    assert_loaded(place, 186, 190)


def test_a_file_that_another_replaced_after_it_was_read_is_said_and_the_other_is_loaded(
    place: Place, monkeypatch: pytest.MonkeyPatch
):
    when_read(monkeypatch, lambda: place.land(DAY, export_of(190)), "ledger")
    report = place.load()
    assert [each.rule for each in report.refused] == ["replaced_file"]
    assert place.current_scores() == [186.0] * 12
    assert_loaded(place, 186, 190)


def test_a_file_that_went_away_after_it_was_read_is_loaded(place: Place, monkeypatch: pytest.MonkeyPatch):
    when_read(monkeypatch, (place.landing / DAY).unlink, "ledger")
    assert [each.rule for each in place.load().refused] == ["replaced_file"]
    assert_loaded(place, 186)


# Two runs at once


@pytest.mark.slow
def test_a_second_run_waits_until_the_first_has_published(place: Place):
    ended: list[Outcome] = []
    with closing(Vault(place.home.vault)) as other, other.lease(REFRESH):
        second = threading.Thread(target=lambda: ended.append(run(place)))
        second.start()
        deadline = time.monotonic() + 30
        while place.ledger().height < 2 and time.monotonic() < deadline:  # loading is another matter
            time.sleep(0.05)
        second.join(0.5)
        assert second.is_alive()
        assert not Path(place.home.projections, "partition_state").exists()
    second.join()
    assert ended[0].failed == {}
    assert_finished(place, 186)


def test_a_run_that_waited_too_long_says_what_for(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Vault.lease.__wrapped__, "__defaults__", (0.1, "is loading district {}"))
    with closing(Vault(place.home.vault)) as other, other.lease(REFRESH):
        told = run(place).failed
    assert told == {"d1": "another run is bringing the projections up to date. Wait for it to end, then run again."}
    with closing(Vault(place.home.vault)) as other, other.lease("d1"):
        told = load(place).failed
    assert told == {"d1": "another run is loading district d1. Wait for it to end, then run again."}
    assert_loaded(place, 186)


def test_a_run_that_slept_until_another_took_over_writes_no_ledger_row(place: Place, monkeypatch: pytest.MonkeyPatch):
    append = Log.append

    def sleeping(self: Log, *given: object) -> None:
        append(self, *given)
        with closing(sqlite3.connect(place.home.vault / "vault.sqlite")) as database, database:
            database.execute("update lease set holder = 'elsewhere/1/x', expires_at = ?", (time.time() + 60,))

    with monkeypatch.context() as patched:
        patched.setattr(Log, "append", sleeping)
        with pytest.raises(VaultError, match="this run paused so long that another run is loading district d1"):
            place.load()
    assert place.ledger().height == 1
    with closing(sqlite3.connect(place.home.vault / "vault.sqlite")) as database, database:
        database.execute("delete from lease")
    assert_loaded(place, 186)


def test_a_lease_lasts_as_long_as_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(vaults, "LEASE_SECONDS", 0.4)
    with (
        closing(Vault(tmp_path)) as vault,
        closing(Vault(tmp_path)) as other,
        vault.lease("d1") as renew,
    ):
        with pytest.raises(VaultError), other.lease("d1", wait_seconds=1.2):
            pass
        renew()
    with closing(Vault(tmp_path)) as vault, vault.lease("d1", wait_seconds=0.1):
        pass


# A clock that steps back


def test_a_clock_that_steps_back_changes_no_order(place: Place):
    assert_loaded(place, 186)
    place.clock.now -= timedelta(days=400)
    place.land("2025-10-08/map.csv", export_of(190))
    assert_loaded(place, 186, 190)
    ledger = place.log.ledger_rows()
    assert ledger["file"].to_list()[-2:] == [DAY, "2025-10-08/map.csv"]
    assert ledger["recorded_at"].is_sorted()
    assert ledger["recorded_at"].n_unique() == ledger.height


@pytest.mark.slow
def test_a_clock_that_steps_back_changes_no_table(place: Place, tmp_path: Path):
    steady = place.copy(tmp_path / "steady")
    for each in (place, steady):
        assert_loaded(each, 186)
        if each is place:
            each.clock.now -= timedelta(days=400)
        each.land("2025-10-08/map.csv", export_of(190))
        assert_loaded(each, 186, 190)
        each.refresh()
    for name, rows in steady.tables().items():
        assert place.tables()[name].equals(rows), name


def test_a_lease_of_a_clock_that_was_ahead_is_waited_for_and_said(tmp_path: Path):
    """Of another machine; one of this machine whose process is gone is not waited for."""
    with closing(Vault(tmp_path)) as vault:
        vault._connection.execute(
            "insert into lease values ('d1', 'elsewhere/1/x', ?)",
            ((datetime.now(UTC) + timedelta(hours=1)).timestamp(),),
        )
        with pytest.raises(VaultError, match="another run is loading district d1"), vault.lease("d1", 0.3):
            pass


# What broke off in the middle of the projections


@pytest.mark.slow
def test_what_a_newer_release_left_half_written_is_written_anew_by_the_older_one(
    place: Place, monkeypatch: pytest.MonkeyPatch
):
    """The inputs are those of before again, and the tables are not."""
    place.load()
    place.refresh()
    before = place.tables()
    replace, written = Table.replace, []

    def breaking(self: Table, *given: object) -> None:
        written.append(self.name)
        if len(written) > 9:
            raise OSError(errno.EIO, "gone")
        replace(self, *given)

    with monkeypatch.context() as patched, pytest.raises(OSError, match="gone"):
        patched.setattr(refresh, "RULES_VERSION", "next")
        patched.setattr(Table, "replace", breaking)
        place.refresh()
    half = place.tables()
    assert not all(half[name].equals(before[name]) for name in before)
    place.refresh()
    assert all(rows.equals(before[name]) for name, rows in place.tables().items())


@pytest.mark.slow
def test_what_is_half_written_is_not_published(place: Place, monkeypatch: pytest.MonkeyPatch):
    assert_finished(place, 186)
    replace = Table.replace

    def breaking(self: Table, *given: object) -> None:
        if self.name == "tier_placement":
            raise OSError(errno.EIO, "gone")
        replace(self, *given)

    with monkeypatch.context() as patched:
        patched.setattr(refresh, "RULES_VERSION", "next")
        patched.setattr(Table, "replace", breaking)
        run(place)
        published = Work(place.home, place.sources()).run([place.district], {"marts"}).published
    assert published == {}
    assert_finished(place, 186)
