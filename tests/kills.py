"""Runs in children of a warm process, killed at a moment or at a boundary and run again, and what is there afterwards.

A program of its own, `python -m tests.kills FOLDER`, because a process that has computed with Polars cannot be forked:
it reads an order a line and answers each with a line, both JSON. Great Expectations only reads, and stays out of it.
"""

import csv
import gc
import hashlib
import io
import json
import mmap
import os
import random
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import hypothesis  # noqa: F401 - Pandera imports both when it first looks at a table
import pandera.backends.polars.register  # noqa: F401
import polars as pl

from pipelines import work
from pipelines.loading import Loader, Sources
from pipelines.simulate import simulate
from pipelines.work import Work
from schemas.events import FAMILIES
from schemas.exports import layouts
from schemas.projections import PROJECTIONS
from tests.homes import POLICY, SECRET, read_tables
from warehouse import publish as publishing
from warehouse.delta import Table
from warehouse.home import Home
from warehouse.log import POLICY as POLICY_LAYOUT
from warehouse.log import READING, Log, loaded
from warehouse.projections import Projections
from warehouse.publish import connect
from warehouse.vault import Vault, derived_keys

DISTRICT = "d001"
NOW = datetime(2026, 7, 1, tzinfo=UTC)
MAP = "map_growth/AssessmentResults_{}_2025-2026.csv"
FIRST = (
    "roster/users.csv",
    "roster/classes.csv",
    "roster/enrollments.csv",
    MAP.format("Fall"),
    "cycles/cycles.csv",
    "cycles/members.csv",
)
READ_AGAIN = ["attempt", "recorded_at"]
"""Of a reading that was begun twice these two are others, and nothing else is."""
BOUNDARIES = (
    "vault transaction",
    "delta commit",
    "before the ledger row",
    "after the ledger row",
    "before the archive",
    "before the landed file is taken",
    "projection",
    "before the states",
    "after the states",
    "before the rename",
    "after the rename",
)
"""Where a run may be killed for certain; each is passed several times in a run."""


# A run and its boundaries


class Passed:
    """How often each boundary was passed, in memory that the parent shares; kills its process at one of them."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 2 * len(BOUNDARIES))
        self.kill_at: tuple[str, int] | None = None

    def __call__(self, name: str) -> None:
        place = 2 * BOUNDARIES.index(name)
        number = int.from_bytes(self._memory[place : place + 2], "little") + 1
        self._memory[place : place + 2] = number.to_bytes(2, "little")
        if self.kill_at == (name, number):
            os.kill(os.getpid(), signal.SIGKILL)

    def reset(self) -> None:
        """Nothing was passed."""
        self._memory[:] = bytes(len(self._memory))

    @property
    def numbers(self) -> dict[str, int]:
        """Times by boundary."""
        return {
            name: int.from_bytes(self._memory[2 * number : 2 * number + 2], "little")
            for number, name in enumerate(BOUNDARIES)
        }

    @property
    def stage(self) -> str:
        """Where the run was."""
        numbers = self.numbers
        if numbers["after the states"] > 1:  # once before the projections are written, once after
            return "publish"
        return "projection" if numbers["projection"] else "load"


passed = Passed()


def watch() -> None:
    """Let the run say when it passes a boundary."""
    transaction, write, record = Vault.transaction, Table._write, Log.record
    archive, take, replace, sync = Loader._archive, Loader._take, Table.replace, publishing.sync

    @contextmanager
    def told_transaction(self: Vault) -> Iterator[None]:
        with transaction(self):
            yield
        passed("vault transaction")

    def told_write(self: Table, *arguments: Any, **options: Any) -> None:
        write(self, *arguments, **options)
        passed("delta commit")

    def told_record(self: Log, row: Any) -> None:
        passed("before the ledger row")
        record(self, row)
        passed("after the ledger row")

    def told_archive(self: Loader, *arguments: Any) -> Any:
        passed("before the archive")
        return archive(self, *arguments)

    def told_take(self: Loader, *arguments: Any) -> Any:
        passed("before the landed file is taken")
        return take(self, *arguments)

    def told_replace(self: Table, *arguments: Any) -> None:
        is_state = self.name == "partition_state"
        if is_state:
            passed("before the states")
        replace(self, *arguments)
        passed("after the states" if is_state else "projection")

    def told_sync(path: Path) -> None:
        passed("before the rename" if path.parent.name.endswith(".building") else "after the rename")
        sync(path)

    Vault.transaction = told_transaction  # type: ignore[method-assign, assignment]
    Table._write = told_write  # type: ignore[method-assign]
    Log.record = told_record  # type: ignore[method-assign]
    Loader._archive = told_archive  # type: ignore[method-assign]
    Loader._take = told_take  # type: ignore[method-assign]
    Table.replace = told_replace  # type: ignore[method-assign]
    publishing.sync = told_sync
    work.plausible = None  # type: ignore[assignment]
    work._expect_news = lambda: None
    Work.look_at_warehouse = lambda self: None  # type: ignore[method-assign]


def run(root: Path) -> dict[str, float]:
    """One pass; its seconds of processor time."""
    sources = Sources(clock=lambda: NOW, keys=derived_keys(SECRET), secret=SECRET)
    outcome = Work(Home(root), sources).run([DISTRICT])
    if outcome.failed or outcome.held:
        raise RuntimeError(f"{outcome.failed} {outcome.held}")
    return {"seconds": time.process_time()}


# What is there


def look(root: Path) -> dict[str, str]:
    """A hash of every table and folder of a home, but for what a second reading may change."""
    home = Home(root)
    log, projections = Log(home), Projections(home.projections)
    ledger = log.ledger_rows([DISTRICT])
    readings = loaded(ledger)
    tables = {"ledger": _untimed(ledger, ledger)}
    kept = [*log.families.items(), *((t.name, t) for t in (log.sightings, log.rejected, log.parked, log.notes))]
    for name, table in kept:
        rows = table.scan().join(readings.lazy().select(READING), on=READING, how="semi").collect()
        if name in FAMILIES and rows["event_id"].n_unique() != rows.height:
            raise RuntimeError(f"events of {name} are in the log twice")
        tables[name] = _untimed(rows, ledger)
    tables |= {f"projections.{name}": rows for name, rows in read_tables(projections).items()}
    tables["partition_state"] = projections.partitions.scan().collect()
    tables["district_state"] = projections.districts.scan().drop("ledger_at").collect()
    found = {name: _hash(rows) for name, rows in tables.items()}
    found |= {f"warehouse {name}": each for name, each in look_at_warehouse(root).items()}
    found |= _vault(home.vault / "vault.sqlite")
    for folder in (home.archive, home.landing):
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        named = [(path.relative_to(folder).as_posix(), path.read_bytes()) for path in files]
        found[folder.name] = hashlib.sha256(repr(named).encode()).hexdigest()
    found["rest"] = repr(sorted(path.name for path in root.glob(".*.building/*")))
    return found


def look_at_warehouse(root: Path) -> dict[str, str]:
    """A hash of every table of the published file, as a reader finds it; none where there is no file."""
    path = Home(root).warehouse
    if not path.exists():
        return {}
    found = {}
    with connect(path) as reader:
        named = "select schema_name, table_name from duckdb_tables() order by all"
        for schema, name in reader.execute(named).fetchall():
            columns = {
                ("log", "ingest_ledger"): "* exclude (attempt, recorded_at, export_at)",
                ("log", "rejected_row"): "* exclude (attempt)",
            }.get((schema, name), "*")
            rows = f"select t::text as r from (select {columns} from {schema}.{name}) as t"
            (text,) = reader.execute(f"select md5(string_agg(r, chr(10) order by r)) from ({rows})").fetchone() or ("",)
            found[f"{schema}.{name}"] = str(text)
    return found


def _untimed(rows: pl.DataFrame, ledger: pl.DataFrame) -> pl.DataFrame:
    """A policy is stated when it is recorded: that time, and the event id that is made of it, may be others."""
    policies = ledger.filter(pl.col("layout") == POLICY_LAYOUT)["batch_id"].implode()
    timed = [name for name in ("export_at", "event_id") if name in rows.columns]
    return rows.with_columns(pl.when(~pl.col("batch_id").is_in(policies)).then(name).alias(name) for name in timed)


def _hash(rows: pl.DataFrame) -> str:
    rows = rows.drop(READ_AGAIN, strict=False)
    ordered = rows.sort([name for name, dtype in rows.schema.items() if not dtype.is_nested()])
    return hashlib.sha256(ordered.write_ndjson().encode()).hexdigest()


def _vault(path: Path) -> dict[str, str]:
    with closing(sqlite3.connect(path)) as database:
        names = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
        return {
            f"vault {name}": hashlib.sha256(
                repr(database.execute(f"select * from {name} order by 1, 2, 3").fetchall()).encode()
            ).hexdigest()
            for name in sorted(names)
            if name not in ("attempt", "clock")
        }


# Homes


def make(root: Path) -> dict[str, Any]:
    """A home in which a few files have landed, one student missing in the roster; and what lands later."""
    home = Home(root / "first").make()
    (home.policies / f"{DISTRICT}.toml").write_text(POLICY)
    (made,) = simulate(root / "made", students=60, schools=2, seed=3, kinds=("roster", "map_growth", "cycles"))
    landing = home.landing / DISTRICT / "2025-10-01"  # one school year takes half as long as two
    for name in FIRST:
        (landing / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(made.path / name, landing / name)
    later = root / "later" / "2026-06-20"
    later.mkdir(parents=True)
    users = (landing / "roster/users.csv").read_text("utf-8-sig").splitlines(keepends=True)
    number = max(number for number, line in enumerate(users) if ",student," in line)
    (landing / "roster/users.csv").write_text("".join(users[:number] + users[number + 1 :]))
    (later / "users.csv").write_text("".join(users))
    rows = list(csv.reader(io.StringIO((landing / MAP.format("Fall")).read_text("utf-8-sig"))))
    score = rows[0].index("TestRITScore")
    for row in rows[1:9]:
        row[score] = "150"
    with (later / "corrected.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    shutil.copy2(made.path / MAP.format("Winter"), later / "winter.csv")
    return {}


def land_later(root: Path) -> None:
    """A corrected file, a file of another window and the student whom the roster lacked."""
    shutil.copytree(root.parent / "later", root / "landing" / DISTRICT, dirs_exist_ok=True)


class Undisturbed:
    """A home before a run that nobody disturbs, and after it."""

    def __init__(self, before: Path, after: Path) -> None:
        self.before, self.after = before, after
        self.shown = {"before": done(look_at_warehouse, before)}
        shutil.copytree(before, after)
        passed.reset()
        self.seconds = done(run, after)["seconds"]
        self.boundaries = passed.numbers
        self.found = done(look, after)
        self.shown["after"] = done(look_at_warehouse, after)


# Children


def begin(doing: Callable[..., Any], *arguments: object) -> tuple[int, int]:
    """Do something in a child; its process id and where its answer can be read."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    code = 1
    try:
        answer = json.dumps(doing(*arguments)).encode()
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(answer)
        code = 0
    except BaseException as error:  # in words of our own: it may hold a cell
        print(f"{type(error).__name__}: {error if isinstance(error, RuntimeError) else ''}", file=sys.stderr)
    finally:
        os._exit(code)


def done(doing: Callable[..., Any], *arguments: object) -> Any:
    """The answer of a child that is let alone."""
    child, reading = begin(doing, *arguments)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError(f"{doing.__name__} ended with {status}")
    return json.loads(answer)


def killed(root: Path, seconds: float | None) -> bool:
    """Begin a run and kill it once it has had so much processor time, or let a boundary do it; whether it was killed.

    Processor time, because other processes may keep this one from running.
    """
    passed.reset()
    child, reading = begin(run, root)
    clock = (~child << 3) | 2  # the clock of another process, as clock_getcpuclockid makes it
    ended = 0
    while seconds is not None and not ended:
        if time.clock_gettime(clock) >= seconds:
            os.kill(child, signal.SIGKILL)
            break
        time.sleep(0.001)
        ended, status = os.waitpid(child, os.WNOHANG)
    if not ended:
        _, status = os.waitpid(child, 0)
    os.close(reading)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def try_once(home: Undisturbed, root: Path, kills: Sequence[tuple[float | None, tuple[str, int] | None]]) -> dict:
    """Kill run after run, let the last one end and say what is other than after an undisturbed one."""
    shutil.copytree(home.before, root)
    stages, faults = [], []
    for seconds, boundary in kills:
        passed.kill_at = boundary
        was_killed = killed(root, seconds)
        passed.kill_at = None
        stages.append(passed.stage if was_killed else "ended")
        if done(look_at_warehouse, root) not in home.shown.values():
            faults.append("a reader found a warehouse of neither before nor after")
    done(run, root)
    found = done(look, root)
    faults += sorted(name for name in found.keys() | home.found.keys() if found.get(name) != home.found.get(name))
    shutil.rmtree(root)
    return {"stages": stages, "faults": faults}


def warm() -> None:
    """What every run would make anew and no thread is needed for."""
    layouts()
    for contract in PROJECTIONS:
        contract.to_schema()
    gc.freeze()


def main(folder: Path) -> None:
    """Answer orders until there are no more."""
    watch()
    warm()
    done(make, folder)
    homes = {"first": Undisturbed(folder / "first", folder / "first-ended")}
    for line in sys.stdin:
        order = json.loads(line)
        if order["home"] == "later" and "later" not in homes:
            shutil.copytree(homes["first"].after, folder / "second")
            land_later(folder / "second")
            homes["later"] = Undisturbed(folder / "second", folder / "second-ended")
        home = homes[order["home"]]
        if "boundary" in order:
            number = max(1, round(order["part"] * home.boundaries[order["boundary"]]))
            kills = [(None, (order["boundary"], number))]
        else:
            chance = random.Random(order["seed"])
            kills = [(chance.random() * home.seconds, None) for _ in range(chance.choice((1, 1, 1, 2, 3)))]
        print(json.dumps(try_once(home, folder / "tried", kills)), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
