"""Names and ids, apart from everything else: a SQLite file that hands out random subject keys."""

import hashlib
import hmac
import os
import secrets
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

import polars as pl

from warehouse.home import HomeError, refuse_open

KeySource = Callable[[str, pl.DataFrame], list[str]]
"""Makes keys for rows of (id_type, id) of one district."""

PERSON_COLUMNS = ("given_name", "middle_name", "family_name", "preferred_name", "birth_date", "username", "email")
CLASS_COLUMNS = ("class_title", "class_code")
TEACHER_COLUMNS = ("teacher_id", "teacher_name")
LEASE_SECONDS = 120.0
KEYED = ("subject_id", "roster_id", "seen_id", "person")
"""Tables with rows of a student."""
NAMED_BY_ID = KEYED[:3]
CACHE_KIB = 65_536
_HOLDERS: set[str] = set()
"""Leases that this process has; others in its name are of a run that could not give them back."""

_SCHEMA = """
create table if not exists subject_id (
    district_id text not null, id_type text not null, id text not null, subject_key text not null,
    primary key (district_id, id_type, id)
) without rowid;
create index if not exists subject_key on subject_id (subject_key);
create table if not exists roster_id (
    district_id text not null, id_type text not null, id text not null, subject_key text not null,
    primary key (district_id, id_type, id, subject_key)
) without rowid;
create table if not exists seen_id (
    district_id text not null, batch_id text not null, id_column text not null, id_type text not null,
    id text not null, subject_key text not null,
    primary key (district_id, batch_id, id_column, id_type, id, subject_key)
) without rowid;
create table if not exists person (
    district_id text not null, subject_key text not null, layout text not null,
    given_name text, middle_name text, family_name text, preferred_name text, birth_date text,
    username text, email text,
    primary key (district_id, subject_key, layout)
) without rowid;
create table if not exists class (
    district_id text not null, class_id text not null, layout text not null, class_title text, class_code text,
    primary key (district_id, class_id, layout)
) without rowid;
create table if not exists class_teacher (
    district_id text not null, class_id text not null, layout text not null, teacher text not null,
    primary key (district_id, class_id, layout, teacher)
) without rowid;
create table if not exists attempt (
    district_id text not null, batch_id text not null, attempt integer not null,
    primary key (batch_id, attempt)
) without rowid;
create table if not exists erased (
    district_id text not null, digest text not null, erasure text not null,
    primary key (district_id, digest, erasure)
) without rowid;
create table if not exists clock (one integer primary key check (one = 1), last_us integer not null);
create table if not exists lease (
    district_id text primary key, holder text not null, expires_at real not null
) without rowid;
"""


class VaultError(Exception):
    """The vault cannot be used as it is; says what is wrong and what to do."""


def random_keys(_district_id: str, ids: pl.DataFrame) -> list[str]:
    """128 random bits for each id."""
    noise = secrets.token_bytes(16 * ids.height).hex()
    return [noise[start : start + 32] for start in range(0, len(noise), 32)]


def derived_keys(secret: bytes) -> KeySource:
    """Keys that depend on district, id type and id alone, for tests of equality (SEMANTICS 4.3)."""

    def keys(district_id: str, ids: pl.DataFrame) -> list[str]:
        return [
            hmac.new(secret, f"{district_id}\0{id_type}\0{each}".encode(), hashlib.sha256).hexdigest()[:32]
            for id_type, each in zip(ids["id_type"], ids["id"], strict=True)
        ]

    return keys


class Vault:
    """Who is who, per district. Every method is one transaction or none."""

    def __init__(self, folder: Path, keys: KeySource = random_keys) -> None:
        self.path = folder / "vault.sqlite"
        self._keys = keys
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.path.exists():
            os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600))
        try:
            refuse_open(folder)
            refuse_open(self.path)
        except HomeError as error:
            raise VaultError(str(error)) from None
        self._connection = self._connect()
        self._connection.execute("pragma journal_mode = wal")
        self._connection.execute("pragma synchronous = full")
        self._connection.execute(f"pragma cache_size = -{CACHE_KIB}")  # random keys touch every page of their index
        self._connection.executescript(_SCHEMA)
        self._read: dict[tuple[str, str, str], pl.DataFrame] = {}
        """Ids read while this process holds the district's lease, and nobody else can add to them."""
        self._leased: set[str] = set()

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=60, isolation_level=None)

    def close(self) -> None:
        """Release the file."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or none."""
        self._connection.execute("begin immediate")
        try:
            yield
            self._connection.execute("commit")
        except BaseException:
            if self._connection.in_transaction:  # a full disk has rolled it back already
                self._connection.execute("rollback")
            raise

    def subject_keys(self, district_id: str, ids: pl.DataFrame) -> pl.DataFrame:
        """The key of each (id_type, id), made where there is none: `id_type`, `id`, `subject_key`."""
        distinct = ids.select("id_type", "id").drop_nulls().unique().sort("id_type", "id")
        types = distinct["id_type"].unique().sort().to_list()
        known = self._subject_ids(district_id, types)
        missing = distinct.join(known, on=["id_type", "id"], how="anti")
        if missing.height:
            made = missing.with_columns(subject_key=pl.Series(self._keys(district_id, missing), dtype=pl.String))
            with self.transaction():
                self._insert("subject_id", district_id, made)
            for each in types:
                self._read.pop(("subject_id", district_id, each), None)
            if district_id in self._leased:
                for each in types:
                    new = made.filter(pl.col("id_type") == each)
                    old = known.filter(pl.col("id_type") == each)
                    self._read["subject_id", district_id, each] = pl.concat([old, new])
            # without the lease another process may have been first: what stands in the vault counts
            known = self._subject_ids(district_id, types)
        return distinct.join(known, on=["id_type", "id"], how="left", maintain_order="left")

    def _subject_ids(self, district_id: str, id_types: Sequence[str]) -> pl.DataFrame:
        names = ("id_type", "id", "subject_key")
        found = [pl.DataFrame(schema=dict.fromkeys(names, pl.String))]
        for each in id_types:
            key = ("subject_id", district_id, each)
            rows = self._read.get(key)
            if rows is None:
                rows = self._select("subject_id", names, district_id, "id_type", each)
                if district_id in self._leased:
                    self._read[key] = rows
            found.append(rows)
        return pl.concat(found)

    def add_roster_ids(self, district_id: str, ids: pl.DataFrame) -> None:
        """Known ids of rostered students: `id_type`, `id`, `subject_key`."""
        with self.transaction():
            self._insert("roster_id", district_id, ids.select("id_type", "id", "subject_key").drop_nulls().unique())
        self._read.pop(("roster_id", district_id, ""), None)

    def roster_ids(self, district_id: str) -> pl.DataFrame:
        """Known ids of rostered students; an id that several students share is left out."""
        key = ("roster_id", district_id, "")
        found = self._read.get(key)
        if found is None:
            rows = self._select("roster_id", ("id_type", "id", "subject_key"), district_id)
            found = rows.filter(~pl.struct("id_type", "id").is_duplicated())
            if district_id in self._leased:
                self._read[key] = found
        return found

    def has_roster(self, district_id: str) -> bool:
        """Whether a roster was loaded."""
        sql = "select 1 from roster_id where district_id = ? limit 1"
        return self._connection.execute(sql, (district_id,)).fetchone() is not None

    def roster_size(self, district_id: str) -> int:
        """Known ids of rostered students."""
        sql = "select count(*) from roster_id where district_id = ?"
        return int(self._connection.execute(sql, (district_id,)).fetchone()[0])

    def add_seen_ids(self, district_id: str, batch_id: str, ids: pl.DataFrame) -> None:
        """Every id that a file showed before there was a roster: `id_column`, `id_type`, `id`, `subject_key`."""
        rows = ids.select("id_column", "id_type", "id", "subject_key").drop_nulls().unique()
        with self.transaction():
            self._insert("seen_id", district_id, rows.insert_column(0, pl.lit(batch_id).alias("batch_id")))

    def seen_ids(self, district_id: str) -> pl.DataFrame:
        """Every id that files showed before there was a roster, by file and column."""
        return self._select("seen_id", ("batch_id", "id_column", "id_type", "id", "subject_key"), district_id)

    def add_people(self, district_id: str, layout: str, people: pl.DataFrame) -> None:
        """Names and birth dates by subject key; the latest file of a layout stands."""
        rows = _named(people, ("subject_key",), PERSON_COLUMNS, layout)
        with self.transaction():
            self._insert("person", district_id, rows, replace=True)

    def add_classes(self, district_id: str, layout: str, classes: pl.DataFrame) -> None:
        """Titles by class id, of which the latest file of a layout stands, and everyone who teaches a class."""
        present = [name for name in TEACHER_COLUMNS if name in classes.columns]
        with self.transaction():
            self._insert("class", district_id, _named(classes, ("class_id",), CLASS_COLUMNS, layout), replace=True)
            if present:
                taught = classes.select("class_id", layout=pl.lit(layout), teacher=pl.coalesce(present))
                self._insert("class_teacher", district_id, taught.drop_nulls().unique())

    def keys_with(self, id_text: str, not_types: Sequence[str] = ()) -> pl.DataFrame:
        """Whom an id names, in every district and whatever its type but these: `district_id`, `subject_key`."""
        where = f"id = ? and id_type not in ({', '.join('?' * len(not_types))})"
        each = [f"select district_id, subject_key from {table} where {where}" for table in NAMED_BY_ID]  # noqa: S608
        rows = self._connection.execute(" union ".join(each), (id_text, *not_types) * len(each)).fetchall()
        return _listed(rows, "district_id", "subject_key").sort("district_id", "subject_key")

    def districts_of(self, subject_key: str) -> list[tuple[str, str]]:
        """Where a subject key is one: district and the key."""
        each = [f"select district_id, subject_key from {table} where subject_key = ?" for table in KEYED]  # noqa: S608
        return self._connection.execute(" union ".join(each), (subject_key,) * len(each)).fetchall()

    def id_types(self, district_id: str) -> set[str]:
        """Types of the ids that a district's files have had."""
        each = [f"select distinct id_type from {table} where district_id = ?" for table in NAMED_BY_ID]  # noqa: S608
        rows = self._connection.execute(" union ".join(each), (district_id,) * len(each)).fetchall()
        return {name for (name,) in rows}

    def ids_of(self, district_id: str, keys: Sequence[str]) -> pl.DataFrame:
        """Every id of these students: `id_type`, `id`, `is_own`, `others`.

        `is_own` says that a key was given for it, `others` how many other students are known by it too.
        """
        is_mine = pl.col("subject_key").is_in(list(keys))
        known = [
            self._select(table, ("id_type", "id", "subject_key"), district_id).with_columns(
                is_own=pl.lit(table == "subject_id")
            )
            for table in NAMED_BY_ID
        ]
        return (
            pl.concat(known)
            .group_by("id_type", "id")
            .agg(
                is_mine=is_mine.any(),
                is_own=(is_mine & pl.col("is_own")).any(),
                others=pl.col("subject_key").filter(~is_mine).n_unique().cast(pl.Int64),
            )
            .filter("is_mine")
            .drop("is_mine")
            .sort("id_type", "id")
        )

    def ids_of_others(self, district_id: str, keys: Sequence[str]) -> pl.DataFrame:
        """Every id of all students but these: `id_type`, `id`."""
        known = [self._select(table, ("id_type", "id", "subject_key"), district_id) for table in NAMED_BY_ID]
        return pl.concat(known).filter(~pl.col("subject_key").is_in(list(keys))).select("id_type", "id").unique()

    def names_of(self, district_id: str, keys: Sequence[str]) -> list[tuple[str, str]]:
        """Given and family name of these students, as files wrote them, where both are known."""
        rows = self._select("person", ("subject_key", "given_name", "family_name"), district_id)
        named = rows.filter(pl.col("subject_key").is_in(list(keys))).drop_nulls()
        return named.select("given_name", "family_name").unique().sort(pl.all()).rows()

    def block(self, district_id: str, erasure: str, digests: Sequence[str]) -> None:
        """Rows with one of these ids become nobody's from now on; given as keyed hashes."""
        with self.transaction():
            self._insert("erased", district_id, pl.DataFrame({"digest": list(digests), "erasure": erasure}))

    def blocked(self, district_id: str) -> pl.Series:
        """Keyed hashes of the ids of erased students."""
        return self._select("erased", ("digest",), district_id)["digest"].unique()

    def unblock(self, district_id: str, digests: Sequence[str]) -> int:
        """Let students in again whom these digests name, under all of their ids; returns of how many erasures."""
        rows = self._select("erased", ("digest", "erasure"), district_id)
        lifted = rows.filter(pl.col("digest").is_in(list(digests)))["erasure"].unique().to_list()
        with self.transaction():
            self._connection.executemany(
                "delete from erased where district_id = ? and erasure = ?", [(district_id, each) for each in lifted]
            )
        return len(lifted)

    def forget(self, district_id: str, keys: Sequence[str]) -> None:
        """Delete every row of these students and write the file anew, so that no free page holds what was deleted."""
        self._connection.execute("pragma secure_delete = on")
        with self.transaction():
            for table in KEYED:
                self._connection.executemany(
                    f"delete from {table} where district_id = ? and subject_key = ?",  # noqa: S608 names are ours
                    [(district_id, key) for key in keys],
                )
        self._connection.execute("vacuum")
        self._connection.execute("pragma wal_checkpoint(truncate)")
        self._read.clear()

    def begin_attempt(self, district_id: str, batch_id: str) -> int:
        """Number of the next reading of a file; a number once given never comes back, whatever became of it."""
        with self.transaction():
            (last,) = self._connection.execute(
                "select coalesce(max(attempt), 0) from attempt where batch_id = ?", (batch_id,)
            ).fetchone()
            self._connection.execute("insert into attempt values (?, ?, ?)", (district_id, batch_id, last + 1))
        return int(last) + 1

    def attempts(self, district_id: str) -> dict[str, int]:
        """How often the reading of each file was begun."""
        return dict(
            self._connection.execute(
                "select batch_id, max(attempt) from attempt where district_id = ? group by batch_id", (district_id,)
            ).fetchall()
        )

    def tick(self, now_us: int) -> int:
        """A time of this home: the clock's, but always later than the last one given (SEMANTICS 5.1)."""
        (stamp,) = self._connection.execute(
            "insert into clock values (1, ?) on conflict (one) do update"
            " set last_us = max(excluded.last_us, clock.last_us + 1) returning last_us",
            (now_us,),
        ).fetchone()
        return int(stamp)

    def last_tick(self) -> int:
        """The last time given; 0 where none was."""
        row = self._connection.execute("select last_us from clock").fetchone()
        return int(row[0]) if row else 0

    @contextmanager
    def lease(
        self, district_id: str, wait_seconds: float = 600.0, doing: str = "is loading district {}"
    ) -> Iterator[Callable[[], None]]:
        """The district's commit lock: one loader at a time, on whatever machine; gives a function that renews it.

        It is renewed while its process lives, however long a file takes; a process that was stopped for longer than
        the lease lasts finds at the next renewal that another has taken over.

        Raises:
            VaultError: another loader held it for longer than ``wait_seconds``.
        """
        holder = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(8)}"

        def renew() -> None:
            if not self._take_lease(district_id, holder):
                raise VaultError(
                    f"this run paused so long that another run {doing.format(district_id)}."
                    " What it had begun counts for nothing; run again."
                )

        ended = Event()
        keeper = Thread(target=self._keep_lease, args=(district_id, holder, ended), daemon=True)
        _HOLDERS.add(holder)
        try:
            deadline = time.monotonic() + wait_seconds
            while not self._take_lease(district_id, holder):
                if time.monotonic() > deadline:
                    raise VaultError(f"another run {doing.format(district_id)}. Wait for it to end, then run again.")
                time.sleep(0.2)
            keeper.start()
            self._leased.add(district_id)
            yield renew
        finally:
            self._leased.discard(district_id)
            self._read = {key: rows for key, rows in self._read.items() if key[1] != district_id}
            ended.set()
            if keeper.is_alive():
                keeper.join()
            _HOLDERS.discard(holder)
            with suppress(sqlite3.OperationalError):  # on a full disk it stays, and counts for nothing
                self._connection.execute(
                    "delete from lease where district_id = ? and holder = ?", (district_id, holder)
                )

    def _keep_lease(self, district_id: str, holder: str, ended: Event) -> None:
        """Renew a lease until it is given back; a connection belongs to one thread."""
        while not ended.wait(LEASE_SECONDS / 4):
            with suppress(sqlite3.OperationalError), closing(self._connect()) as connection:
                connection.execute(
                    "update lease set expires_at = ? where district_id = ? and holder = ?",
                    (time.time() + LEASE_SECONDS, district_id, holder),
                )

    def _take_lease(self, district_id: str, holder: str) -> bool:
        now = time.time()
        self._drop_dead_lease(district_id)
        changed = self._connection.execute(
            "insert into lease values (?, ?, ?) on conflict (district_id) do update"
            " set holder = excluded.holder, expires_at = excluded.expires_at"
            " where lease.holder = excluded.holder or lease.expires_at < ?",
            (district_id, holder, now + LEASE_SECONDS, now),
        )
        return changed.rowcount > 0

    def _drop_dead_lease(self, district_id: str) -> None:
        """A lease whose run on this machine is gone need not run out."""
        row = self._connection.execute("select holder from lease where district_id = ?", (district_id,)).fetchone()
        if row is None:
            return
        host, pid, _ = str(row[0]).split("/")
        if pid == str(os.getpid()):
            is_gone = row[0] not in _HOLDERS
        else:
            is_gone = not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists()
        if host == socket.gethostname() and is_gone:
            self._connection.execute("delete from lease where district_id = ? and holder = ?", (district_id, row[0]))

    def _insert(self, table: str, district_id: str, rows: pl.DataFrame, replace: bool = False) -> None:
        if rows.is_empty():
            return
        rows = rows.sort(rows.columns[:3], nulls_last=True)  # in the order of the table's key: three times as fast
        names = ", ".join(("district_id", *rows.columns))
        marks = ", ".join("?" * (rows.width + 1))
        verb = "replace" if replace else "ignore"
        self._connection.executemany(
            f"insert or {verb} into {table} ({names}) values ({marks})",  # noqa: S608 names are ours
            zip([district_id] * rows.height, *(rows[name].to_list() for name in rows.columns), strict=True),
        )

    def _select(
        self, table: str, names: Sequence[str], district_id: str, column: str | None = None, value: str | None = None
    ) -> pl.DataFrame:
        where = f" and {column} = ?" if column else ""
        lists = self._connection.execute(  # a list a column: rows would each become a tuple of Python
            f"select {', '.join(f'json_group_array({name})' for name in names)}"  # noqa: S608 names are ours
            f" from {table} where district_id = ?{where}",
            (district_id, value) if column else (district_id,),
        ).fetchone()
        found = pl.DataFrame(dict(zip(names, ([each] for each in lists), strict=True)))
        return found.select(pl.all().str.json_decode(pl.List(pl.String)).explode(empty_as_null=False))


def _listed(rows: Sequence[tuple[str, ...]], *names: str) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")


def _named(rows: pl.DataFrame, key: Sequence[str], values: Sequence[str], layout: str) -> pl.DataFrame:
    """Key, layout and those value columns the file has, the last line of each key."""
    present = [name for name in values if name in rows.columns]
    return (
        rows.select(*key, pl.lit(layout).alias("layout"), *(pl.col(name).cast(pl.String) for name in present))
        .drop_nulls(list(key))
        .filter(pl.any_horizontal(pl.col(name).is_not_null() for name in present) if present else pl.lit(False))
        .unique(list(key), keep="last", maintain_order=True)
    )
