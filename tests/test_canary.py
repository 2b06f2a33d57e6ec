"""Markers for every name, id, note and score of a landing folder: after failures in every tool, where they stand.

Names, ids and notes may stand in `landing/`, `archive/`, the vault and `notes/`; scores also in the columns meant for
them. What was said on the way, by commands, tools and errors, is searched like a file.
"""

import gzip
import io
import os
import re
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

pytestmark = pytest.mark.slow
CLOSED = ("landing", "archive", "vault", "notes")
MEANT = frozenset(
    (
        *("score", "rasch_score", "strands", "baseline", "goal_score", "aim_score", "mean_score"),
        *("score_below", "score_at_or_above", "mean_before", "mean_after", "intercept", "theil_sen_intercept"),
    )
)
"""Columns of the log, the projections and the warehouse that hold scores, or what one test alone makes of them."""


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


@pytest.fixture(scope="module")
def haunted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """The home after all that, and what was said."""
    folder = tmp_path_factory.mktemp("haunted")
    home = folder / "home"
    done = subprocess.run(
        [sys.executable, "-m", "tests.haunted", str(home)],
        cwd=Path(__file__).resolve().parents[1],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1]), "RUST_BACKTRACE": "1"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return home, done.stdout + done.stderr


def test_the_markers_were_read(haunted: tuple[Path, bytes]):
    """Otherwise nothing would be proven: they are where they may be, in plenty."""
    home, _ = haunted
    for folder in ("archive", "vault"):
        texts = {
            each for path in (home / folder).rglob("*") if path.is_file() for each in TEXT.findall(path.read_bytes())
        }
        assert len(texts) > 200, folder
    notes = b"".join(text for path in (home / "notes").rglob("*.parquet") for _, text in contents(path))
    assert NOTE.encode() in notes and len(set(TEXT.findall(notes))) > 5
    scores = [text for path in (home / "log").rglob("*.parquet") for _, text in contents(path)]
    assert len(set(SCORE.findall(b"".join(scores)))) > 50


def test_each_failure_was_provoked(haunted: tuple[Path, bytes]):
    home, said = haunted
    parts = dict(part.split(b"\n", 1) for part in said.split(b"== ")[1:] if b"\n" in part)
    for name, words in PROVOKED.items():
        assert re.search(words, parts[name.encode()]), name
    for words in (
        rb"making the report of d001 failed: Provoked",
        rb"\$ report -> 1 [^$]*A fault in Tierline: Provoked",
        rb"looking for files failed: Provoked",
        rb"\$ retract -> 2 ",
        rb"\$ alerts -> 1 \s*The alert could not be sent by webhook",
    ):
        assert re.search(words, said), words
    assert '"is_passed": false' in (home / ".warehouse.duckdb.checked.json").read_text()  # a promise of a table


PROVOKED = {
    "pandera": rb"held .*d001 2026: .*contract: ",
    "asset": rb"bringing the projections up to date failed: Provoked",
    "delta": rb"(cannot be written|failed: \w+Error)",
    "conform": rb"loading failed: Provoked|projections up to date failed: Provoked",
    "sql": rb"could not be made \(ConversionException\)",
    "publish": rb"publishing failed: Provoked",
    "loader": rb"loading failed: Provoked",
    "telling": rb"telling Dagster failed: Provoked",
    "summary": rb"A fault in Tierline: Provoked",
}
"""What each failure is told as."""


def test_no_name_id_or_note_is_said(haunted: tuple[Path, bytes]):
    _, said = haunted
    assert TEXT.findall(said) == []
    assert DAY not in said
    assert WEBHOOK.encode() not in said


def test_no_score_is_said_but_to_who_asked_for_it(haunted: tuple[Path, bytes]):
    """`tierline explain` shows a person the scores of the key they asked for."""
    _, said = haunted
    parts = said.split(b"\n$ ")
    assert [part[:40] for part in parts if SCORE.search(part) and not part.startswith(b"explain student -> 0")] == []


def test_names_ids_and_notes_stand_where_they_may(haunted: tuple[Path, bytes]):
    home, _ = haunted
    assert found_in(home)["text"] == set()


def test_scores_stand_in_the_columns_meant_for_them(haunted: tuple[Path, bytes]):
    home, _ = haunted
    stray = {(file, part) for file, part in found_in(home)["score"] if not is_meant(file, part)}
    assert stray == set()


def is_meant(file: str, part: str) -> bool:
    top = Path(file).parts[0]
    if top in ("log", "projections") or Path(file).suffix == ".duckdb":
        return part.rpartition(".")[2] in MEANT or part == "bytes"
    return top == "exported"
