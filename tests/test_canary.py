"""Markers for every name, id, note and score of a landing folder: after failures in every tool, where they stand.

Names, ids and notes may stand in `landing/`, `archive/`, the vault and `notes/`; scores also in the columns meant for
them. What was said on the way, by commands, tools and errors, is searched like a file.
"""

import gzip
import io
import os
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import duckdb
import polars as pl
import pytest

from tests.haunted import DAY, NOTE, SCORE, TEXT, WEBHOOK

CLOSED = ("landing", "archive", "vault", "notes")
MEANT = frozenset(
    ("score", "baseline", "goal_score", "strands", "screening_score", "cut", "slope", "observed")
)  # fmt: skip
"""Columns of the log, the projections and the warehouse that hold a score as it was read."""


def contents(path: Path) -> Iterator[tuple[str, bytes]]:
    """The bytes of a file, and what they mean to the tool that wrote them, by part."""
    data = path.read_bytes()
    yield "bytes", data
    if path.suffix == ".parquet":
        yield from columns_of(pl.read_parquet(data, hive_partitioning=False))
    elif data.startswith(b"SQLite format 3"):
        with sqlite3.connect(path) as connection:
            yield "rows", "\n".join(connection.iterdump()).encode()
    elif path.suffix == ".duckdb":
        with duckdb.connect(str(path), read_only=True) as connection:
            for schema, name in connection.execute("select schema_name, table_name from duckdb_tables()").fetchall():
                for part, text in columns_of(pl.DataFrame(connection.sql(f"from {schema}.{name}"))):
                    yield f"{schema}.{name}.{part}", text
    elif zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            yield from ((member, archive.read(member)) for member in archive.namelist())
    elif data.startswith(b"\x1f\x8b"):
        yield "unpacked", gzip.decompress(data)


def columns_of(rows: pl.DataFrame) -> Iterator[tuple[str, bytes]]:
    for name in rows.columns:
        yield name, rows.select(name).unique().write_ndjson().encode()


def found_in(root: Path) -> dict[str, set[tuple[str, str]]]:
    """For each kind of marker the files and parts that hold it outside the closed folders."""
    found: dict[str, set[tuple[str, str]]] = {"text": set(), "score": set()}
    for path in sorted(root.rglob("*")):
        where = path.relative_to(root)
        if not path.is_file() or where.parts[0] in CLOSED:
            continue
        parts = [("name", os.fsencode(str(where))), *contents(path)]
        for part, content in parts:
            if TEXT.search(content) or DAY in content or WEBHOOK.encode() in content:
                found["text"].add((str(where), part))
            if SCORE.search(content):
                found["score"].add((str(where), part))
    return found


@pytest.fixture(scope="module", params=["a few", pytest.param("all", marks=pytest.mark.slow)])
def haunted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, str]:
    """The home after all that, what was said, and which commands ended how."""
    folder = tmp_path_factory.mktemp("haunted")
    home = folder / "home"
    done = subprocess.run(
        [sys.executable, "-m", "tests.haunted", str(home), *(["all"] if request.param == "all" else [])],
        cwd=Path(__file__).resolve().parents[1],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1]), "RUST_BACKTRACE": "1"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return home, done.stdout + done.stderr, request.param


def test_the_markers_were_read(haunted: tuple[Path, bytes, str]):
    """Otherwise nothing would be proven: they are where they may be, in plenty."""
    home, _, _ = haunted
    for folder in ("archive", "vault"):
        texts = {
            each for path in (home / folder).rglob("*") if path.is_file() for each in TEXT.findall(path.read_bytes())
        }
        assert len(texts) > 200, folder
    notes = b"".join(text for path in (home / "notes").rglob("*.parquet") for _, text in contents(path))
    assert NOTE.encode() in notes and len(set(TEXT.findall(notes))) > 5
    scores = [text for path in (home / "log").rglob("*.parquet") for _, text in contents(path)]
    assert len(set(SCORE.findall(b"".join(scores)))) > 50


def test_each_failure_was_provoked(haunted: tuple[Path, bytes, str]):
    _, said, share = haunted
    told = [b"pandera", b"asset", b"delta", b"conform", b"sql"]
    if share == "all":
        told += [b"publish", b"loader", b"telling"]
    runs = said.split(b"\n== ")
    for name in told:
        (run,) = (each for each in runs if each.startswith(name))
        assert b"$ run -> 1" in run, name
        assert b"failed" in run or b"contract: " in run or b"could not be" in run, name
    for words in (b"$ report -> 1", b"$ alerts -> 1", b"AlertNotSent", b"$ retract -> 2", b"looking for files failed"):
        assert words in said or words == b"AlertNotSent", words
    assert b"The alert could not be sent by webhook" in said


def test_no_name_id_or_note_is_said(haunted: tuple[Path, bytes, str]):
    _, said, _ = haunted
    assert TEXT.findall(said) == []
    assert DAY not in said
    assert WEBHOOK.encode() not in said


def test_no_score_is_said_but_to_who_asked_for_it(haunted: tuple[Path, bytes, str]):
    """`tierline explain` shows a person the scores of the key they asked for."""
    _, said, _ = haunted
    parts = said.split(b"\n$ ")
    assert [part[:40] for part in parts if SCORE.search(part) and not part.startswith(b"explain student -> 0")] == []


def test_names_ids_and_notes_stand_where_they_may(haunted: tuple[Path, bytes, str]):
    home, _, _ = haunted
    assert found_in(home)["text"] == set()


def test_scores_stand_in_the_columns_meant_for_them(haunted: tuple[Path, bytes, str]):
    home, _, _ = haunted
    stray = {(file, part) for file, part in found_in(home)["score"] if not is_meant(file, part)}
    assert stray == set()


def is_meant(file: str, part: str) -> bool:
    top = Path(file).parts[0]
    if top in ("log", "projections", "then") or Path(file).suffix == ".duckdb":
        return part.rpartition(".")[2] in MEANT or part == "bytes"
    return top == "exported"
