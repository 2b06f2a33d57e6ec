"""Dagster's history of runs below a home: its settings, and an event log quick enough for a command line."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import StaticPool

from warehouse.home import Home, HomeError

FOLDER = ".dagster"
PATTERN = "*?[]%"
SECRET = re.compile("password|secret|token", re.IGNORECASE)
WITH_PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]+@")
"""An address that has a password in it."""
KEPT_OPEN = 8
"""Databases of runs kept open; the web server looks at many."""


class History(SqliteEventLogStorage):
    """Dagster's own SQLite event log over connections that stay open.

    Dagster opens the database anew and waits for the disk for every event, 25 ms each on a laptop, five events per
    table and district. Here a commit does not wait: after a loss of power the last events may be missing from the
    history of runs, and nothing else, since the log and the ledger are not kept here.
    """

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engines: dict[str, Engine] = {}
        super().__init__(base_dir, inst_data)

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> "History":
        """Made by Dagster from ``dagster.yaml``."""
        return cls(inst_data=inst_data, **config_value)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock:
            engine = self._engines.pop(shard, None) or self._open(shard)
            self._engines[shard] = engine
            while len(self._engines) > KEPT_OPEN:
                self._engines.pop(next(iter(self._engines))).dispose()
            with engine.begin() as connection:
                yield connection

    def _open(self, shard: str) -> Engine:
        engine = create_engine(
            self.conn_string_for_shard(shard),
            poolclass=StaticPool,
            connect_args={"timeout": 30, "check_same_thread": False},
        )
        event.listen(engine, "connect", lambda connection, _: connection.execute("pragma synchronous = normal"))
        self._initdb(engine)
        return engine

    def dispose(self) -> None:
        """Close every connection."""
        while self._engines:
            self._engines.popitem()[1].dispose()
        super().dispose()


def dagster_home(home: Home) -> Path:
    """The folder of this home's Dagster instance, made with the repository's settings where it has none.

    Raises:
        HomeError: Dagster would not find its settings there, and would report to its maker; or they hold a password.
    """
    if odd := sorted(set(str(home.root)) & set(PATTERN)):
        raise HomeError(
            f"The path of the home has the character {' '.join(odd)}, which Dagster and Delta take for a pattern."
            " Move the home to a path without it."
        )
    folder = home.root / FOLDER
    settings = folder / "dagster.yaml"
    if not settings.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = settings.with_name(f".{settings.name}.{os.getpid()}")
        part.write_text(_settings(folder), "utf-8")
        part.replace(settings)
    _refuse_passwords(settings)
    return folder


def _refuse_passwords(settings: Path) -> None:
    """A password in a file is in every copy of it; Dagster reads one from the environment by `env: NAME`."""
    try:
        written = _written_passwords(yaml.safe_load(settings.read_text("utf-8")), "")
    except (yaml.YAMLError, UnicodeDecodeError):
        return  # Dagster says what is wrong with it
    if written:
        raise HomeError(
            f"{settings} has a password written in it, under {', '.join(written)}. Give it in the environment instead:"
            " env: DAGSTER_PG_PASSWORD in its place."
        )


def _written_passwords(value: object, name: str) -> list[str]:
    if isinstance(value, dict):
        return [each for key, inner in value.items() for each in _written_passwords(inner, f"{name}.{key}".strip("."))]
    if isinstance(value, list):
        return [each for inner in value for each in _written_passwords(inner, name)]
    is_secret = bool(SECRET.search(name.rpartition(".")[2]))
    return [name] if isinstance(value, str) and value and (is_secret or WITH_PASSWORD.search(value)) else []


def instance_of(home: Home) -> dg.DagsterInstance:
    """The Dagster instance of a home."""
    return dg.DagsterInstance.from_config(str(dagster_home(home)))


def _settings(folder: Path) -> str:
    """`dagster.yaml` with its paths below this folder instead of below the repository."""
    here = Path(__file__).parent
    found = next(path for path in (here / "dagster.yaml", here.parent / "dagster.yaml") if path.exists())
    return re.sub(
        rf"(base_dir: ){re.escape(FOLDER)}/(\S+)",
        lambda match: match[1] + json.dumps(str(folder / match[2])),
        found.read_text("utf-8"),
    )
