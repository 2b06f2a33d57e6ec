"""A landing folder in which every name, id, note and score is a marker, and failures provoked in every tool.

Run as a program, `python -m tests.haunted HOME`, so that everything it says can be searched.
"""

import contextlib
import csv
import hashlib
import io
import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dagster as dg
import polars as pl
from typer.testing import CliRunner

from pipelines import cli, refresh, runs, sensors, work
from pipelines.definitions import defs
from pipelines.history import instance_of
from pipelines.partitions import add_districts, run_tags
from pipelines.report import site
from pipelines.simulate import simulate
from pipelines.work import Outcome, Work
from schemas.exports import Binding, Column, layouts
from transforms.recognition import Recognised, recognise
from warehouse import delta, publish
from warehouse.home import Home

EXPORTS = Path(__file__).parent / "exports"
POLICY = 'time_zone = "America/Denver"\n[quality]\nmatch_rate_minimum = 0.0\n'
WEBHOOK = "http://127.0.0.1:9/hook/zq-secret-hook-kw"
NOTE = "Zqnoteofaperson0Kw"
TEXT = re.compile(rb"Zq[0-9a-z]{6,}Kw")
"""What stands for a name, an id or a note."""
DAY = b"1987-06-05"
"""The birthday of everyone."""
FRACTION = ".31415"
"""Of every score."""
SCORE = re.compile(rb"(?<!\d)\d{1,4}\.31415(?!\d)")


def marker(cell: str) -> str:
    """The same for the same cell, so that rosters and tests still meet."""
    return f"Zq{hashlib.sha256(cell.strip().encode()).hexdigest()[:10]}Kw"


def planted(data: str, name: str) -> str:
    """A file of exports with markers in the place of names, ids, notes and scores, and of whatever nobody reads."""
    if name.endswith(".jsonl"):
        return _planted_lines(data)
    header, *rows = csv.reader(io.StringIO(data))
    found = recognise(header, name, layouts())
    if not isinstance(found, Recognised):
        return data
    kinds = _kinds(found.binding, len(header))
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(header)
    for row in rows:
        writer.writerow([_cell(cell, kinds[at]) for at, cell in enumerate(row)])
    return out.getvalue()


def _planted_lines(data: str) -> str:
    columns = layouts()["cycle_log_events"].columns
    kinds = {each: _kind(name, column) for name, column in columns.items() for each in column.headers}

    def walk(value: Any, path: str) -> Any:
        if isinstance(value, dict):
            return {key: walk(each, f"{path}.{key}".strip(".")) for key, each in value.items()}
        kind = kinds.get(path, "")
        if isinstance(value, str):
            return _cell(value, kind)
        return round(int(value) + 0.31415, 5) if kind == "score" and isinstance(value, int | float) else value

    lines = []
    for line in data.splitlines():
        try:
            lines.append(json.dumps(walk(json.loads(line), "")))
        except ValueError:
            lines.append(line)
    return "\n".join(lines) + "\n"


def _kinds(binding: Binding, width: int) -> list[str]:
    kinds = ["hidden"] * width
    for name, at in binding.positions.items():
        kinds[at] = _kind(name, binding.layout.columns[name])
    for slot in binding.slots:
        for name, at in slot.positions.items():
            kinds[at] = _kind(name, slot.fact.columns[name])
        for strand in slot.strands:
            for part, at in strand.items():
                kinds[at] = "score" if part == "score" else ""
    for strand in binding.strands:
        for part, at in strand.items():
            kinds[at] = "score" if part == "score" else ""
    return kinds


def _kind(name: str, column: Column) -> str:
    if column.type == "date" and column.vault:
        return "day"
    if column.pairs:
        return "pairs"
    if column.vault or column.type in ("id", "person", "note"):
        return "hidden"
    return "score" if column.type == "number" and ("score" in name or name == "baseline") else ""


def _cell(cell: str, kind: str) -> str:
    if not cell.strip():
        return cell
    if kind == "hidden":
        return marker(cell)
    if kind == "day":
        return DAY.decode()
    if kind == "pairs":
        return re.sub(r":\s*([^},]+)", lambda found: ":" + marker(found[1]), cell)
    if kind == "score" and re.fullmatch(r"\d{1,4}(\.\d+)?", cell.strip()):
        return cell.strip().partition(".")[0] + FRACTION
    return cell


def haunt(home: Home) -> None:
    """Three districts: one that works, one of every layout, one whose files are held."""
    home.make()
    made = simulate(home.landing, students=80, schools=1, seed=4, kinds=("roster", "map_growth", "cycles"))[0]
    for path in made.path.rglob("*"):
        if path.is_file():
            path.write_text(planted(path.read_text("utf-8-sig"), path.name), "utf-8")
    (home.policies / f"{made.id}.toml").write_text(POLICY, "utf-8")
    every = home.landing / "every"
    for path in sorted(EXPORTS.iterdir()):
        if not path.name.startswith("oneroster"):
            target = every / path.stem / path.name
            target.parent.mkdir(parents=True)
            target.write_text(planted(path.read_text("utf-8-sig"), path.name), "utf-8")
    (home.policies / "every.toml").write_text(POLICY, "utf-8")
    _land_trouble(home, made.path)


def _land_trouble(home: Home, good: Path) -> None:
    """Rows to be rejected, and files to be held."""
    text = min((good / "map_growth").glob("*Fall*.csv")).read_text("utf-8")
    header, *rows = text.splitlines()
    folder = home.landing / "trouble"
    folder.mkdir()
    (folder / "damaged.csv").write_text(
        "\n".join([header, *(f'"{row}' for row in rows[:5]), *(row[:60] for row in rows[5:9])])
    )
    (folder / "glued.csv").write_text(header + "\n".join(rows[:20]) + "\n")
    (folder / "renamed.csv").write_text(text.replace("TestRITScore", "TestRITScores", 1))
    (folder / "swapped.csv").write_text(text.replace("TestRITScore", "TestStartDates", 1))
    (folder / "unknown.csv").write_text("\n".join(rows[:3]))
    (folder / "last_year.csv").write_text(re.sub(r"\b(\d\d/\d\d/)20\d\d\b", r"\g<1>2019", text))
    (home.policies / "trouble.toml").write_text(POLICY, "utf-8")


# Failures


class Provoked(Exception):
    """Says what it was about, as libraries do."""


def cells(home: Home) -> str:
    """What an error of a library would print: rows with a name, an id, a score."""
    scores = pl.DataFrame({"score": [187.31415], "subject": ["Zq0123456789Kw"], "born": [DAY.decode()]})
    return f"{scores.write_ndjson()} conversion of 187.31415 failed for Zq0123456789Kw"


def breaking(home: Home) -> Callable[..., Any]:
    """Fails inside another error, as libraries do."""

    def fail(*_: Any, **__: Any) -> Any:
        try:
            pl.DataFrame({"id": ["Zq0123456789Kw"], "score": ["187.31415x"]}).cast({"id": pl.Int64, "score": pl.Int64})
        except Exception as error:
            raise Provoked(cells(home)) from error

    return fail


def broken_rows(rows: pl.DataFrame, *rest: Any) -> pl.DataFrame:
    """Pandera is given rows that break their contract, with scores in them."""
    from pipelines.quality import contract_results

    spoilt = rows.with_columns(school_year=pl.lit("Zq0123456789Kw"))
    if "score" in rows.columns:
        spoilt = spoilt.with_columns(score=pl.lit("187.31415"))
    return contract_results(spoilt, *rest)


def unfit(rows: pl.LazyFrame, _contract: type) -> pl.LazyFrame:
    """Delta is given text where the table has numbers."""
    numbers = [name for name, dtype in rows.collect_schema().items() if dtype.is_float()]
    return rows.with_columns(pl.lit("187.31415 of Zq0123456789Kw").alias(name) for name in numbers)


BAD_SQL = "select cast(subject_key || ' Zq0123456789Kw 187.31415' as integer) as tested from projections.tier_placement"


def failures(home: Home) -> Iterator[tuple[str, contextlib.AbstractContextManager[Any]]]:
    """What goes wrong in each run, one after the other."""
    fail = breaking(home)
    yield "nothing", contextlib.nullcontext()
    yield "pandera", patch.object(refresh, "contract_results", broken_rows)
    yield "asset", patch.object(work, "refresh", fail)
    yield "delta", patch.object(delta, "conform", unfit)
    yield "conform", patch.object(delta, "conform", fail)
    yield "sql", patch.object(publish, "mart_sql", lambda _: BAD_SQL)
    yield "publish", patch.object(work, "publish", fail)
    yield "loader", patch.object(work.Loader, "load", fail)
    yield "telling", patch("pipelines.assets.materializations", fail)
    yield "summary", patch.object(Outcome, "summary", fail)


def correct(home: Home, number: int) -> None:
    """Something for a run to do: five scores of the district that works are others now."""
    (district,) = (path for path in home.landing.iterdir() if path.name not in ("every", "trouble"))
    lines = (home.landing / "trouble" / "unknown.csv").read_text("utf-8").splitlines()
    header = next((home.archive / district.name).rglob("*Fall*.csv"), None) or next(district.rglob("*Fall*.csv"))
    first = header.read_text("utf-8").splitlines()[0]
    scores = [re.sub(r"\b\d{3}\.31415", f"{201 + number}.31415", line) for line in lines]
    (district / f"again-{number}.csv").write_text("\n".join([first, *scores]) + "\n", "utf-8")


def command(*words: str) -> None:
    """One command as a person types it; what it says and what it fails with is printed."""
    result = CliRunner().invoke(cli.app, list(words))
    name = " ".join(words[: 2 if words[0] in ("explain", "student") else 1])
    print(f"$ {name} -> {result.exit_code}", result.output)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        print(cli._told(result.exception) if isinstance(result.exception, Exception) else type(result.exception))


def provoke(home: Home) -> None:
    """Run the graph with one failure after another, then the commands, the report and the sensor."""
    where = ("--home", str(home.root))
    for number, (name, failing) in enumerate(failures(home)):
        print(f"== {name}", flush=True)
        if number:
            correct(home, number)
        with failing:
            command("run", *where)
    print("== the rest", flush=True)
    report_fails(home)
    tick_fails(home)
    command("run", *where)
    with publish.connect(home.warehouse, read_only=False) as connection:
        connection.execute("update marts.tier_summary set tier_1_share = 7")
    command("run", *where, "--json")
    for each in sorted((home.landing / "trouble").glob("*.csv")):
        command("layouts", str(each), *where, "--district", "trouble")
    first, second = keys(home)
    command("status", *where)
    command("verify", *where)
    command("explain", "student", first, *where)
    command("explain", "class", "no-such-class", *where)
    command("report", *where)
    command("export", "--out", str(home.root / "exported"), "--format", "csv", *where)
    command("student", "merge", first, second, "--reason", NOTE, *where)
    command("retract", "no-such-event", "--reason", "wrong_student", "--note", NOTE, *where)
    command("alerts", "--test")


def keys(home: Home) -> tuple[str, str]:
    """Two students of one district."""
    tests = pl.read_delta(f"{home.log}/screening").filter(pl.col("district_id") == "every").drop_nulls("subject_key")
    first, second, *_ = tests["subject_key"].unique().sort().to_list()
    return first, second


def report_fails(home: Home) -> None:
    """In Dagster, whose history keeps what an asset failed with, and on the command line."""
    with patch.object(site, "rendered", breaking(home)):
        with instance_of(home) as history:
            tags = run_tags(add_districts(history, home.districts()), home.districts())
            job = defs.resolve_job_def("make_reports")
            job.execute_in_process(instance=history, resources={"work": Work(home)}, tags=tags, raise_on_error=False)
        command("report", "--home", str(home.root))


def tick_fails(home: Home) -> None:
    """What a sensor fails with is kept by Dagster's daemon."""
    with patch.object(sensors, "look", breaking(home)), instance_of(home) as history:
        context = dg.build_sensor_context(instance=history, resources={"work": Work(home)})
        try:
            sensors.landed_files(context)
        except Exception:
            print(traceback.format_exc())


if __name__ == "__main__":
    logging.basicConfig(level=logging.DEBUG)
    os.environ["TIERLINE_ALERT_WEBHOOK"] = WEBHOOK
    place = Home(Path(sys.argv[1]))
    runs.QUIET = {"loggers": {"console": {"config": {"log_level": "DEBUG"}}}}
    haunt(place)
    provoke(place)
