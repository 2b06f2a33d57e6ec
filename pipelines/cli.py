"""The command line. Exit codes: 0 done, 1 a check blocked, 2 wrong use, 3 nothing matched."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from warehouse.home import Home

DONE, BLOCKED, WRONG_USE, NOTHING = 0, 1, 2, 3

app = typer.Typer(
    name="tierline",
    help="Student, classroom or system? From school data exports to flagged classrooms, every row accounted for.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
explain_app = typer.Typer(no_args_is_help=True, help="The chain from a decision back to file and line.")
app.add_typer(explain_app, name="explain")

HomeOption = Annotated[
    Path, typer.Option("--home", envvar="TIERLINE_HOME", help="Folder of the agency's data.", show_default="./data")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]
DistrictOption = Annotated[list[str] | None, typer.Option("--district", "-d", help="Only these districts.")]
DEFAULT_HOME = Path("data")


def main() -> None:
    """Entry point: errors of ours are one line, without a trace that could show data."""
    from pipelines.loading import HomeMismatch
    from schemas.contract import BrokenContract
    from schemas.policy import UnreadablePolicy
    from warehouse.delta import StoreError
    from warehouse.home import HomeError
    from warehouse.vault import VaultError

    try:
        app()
    except (UnreadablePolicy, HomeError, HomeMismatch, VaultError, StoreError, BrokenContract) as error:
        fail(str(error), BLOCKED)


def fail(message: str, code: int = WRONG_USE) -> NoReturn:
    """Say what is wrong and end."""
    Console(stderr=True, highlight=False).print(message, style="red", markup=False)
    raise SystemExit(code)


@contextmanager
def progress(quiet: bool) -> Iterator[Any]:
    """A bar on a terminal, nothing in a pipe; gives a function that says what is under way."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda _message: None
        return
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task("Starting", total=None)
        yield lambda message: bar.update(task, description=message[:60])


@app.command()
def demo(
    home: Annotated[Path, typer.Option("--home", envvar="TIERLINE_HOME", show_default="./data")] = DEFAULT_HOME,
    students: Annotated[int, typer.Option(min=200, help="Students of the synthetic district.")] = 3000,
) -> None:
    """Make a synthetic district in real vendor layouts, run everything, say what was found and where to look."""
    from pipelines.demo import findings, make_demo
    from pipelines.runs import run_graph

    place = Home(home)
    console = Console(highlight=False)
    with progress(quiet=False) as say:
        say("Simulating a district")
        districts = make_demo(place, students)
        outcome = run_graph(place, districts, progress=say)
    console.print("Tierline demo: one synthetic district, nobody in it is real.", style="bold")
    for line in findings(place.warehouse, place):
        console.print(line, markup=False, soft_wrap=True)
    raise typer.Exit(outcome.exit_code)


@app.command()
def run(
    home: HomeOption = DEFAULT_HOME,
    district: DistrictOption = None,
    school_year: Annotated[str | None, typer.Option(help="Only this school year, by its ending year.")] = None,
    as_of: Annotated[
        str | None, typer.Option(help="Rebuild what was known then: a day or a UTC time. Needs --out.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where a rebuild of the past goes.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Load what landed and materialise what changed."""
    from pipelines.runs import rebuild_as_of, run_graph

    place = Home(home).make()
    districts = _districts(place, district)
    with progress(quiet=as_json) as say:
        if as_of is not None:
            if out is None:
                fail("--as-of needs --out: a day in the past is rebuilt beside the present, never over it.")
            outcome = rebuild_as_of(place, districts, _moment(as_of), out, progress=say)
        else:
            outcome = run_graph(place, districts, school_year=school_year, progress=say)
    if as_json:
        print(json.dumps(outcome.summary(), default=str))  # noqa: T201 output for scripts
    else:
        _show_outcome(outcome.summary())
    raise typer.Exit(outcome.exit_code)


@app.command()
def status(home: HomeOption = DEFAULT_HOME, district: DistrictOption = None, as_json: JsonOption = False) -> None:
    """Files, rows by outcome, refused, stale, flags."""
    from pipelines.status import status_of

    place = Home(home)
    rows = status_of(place, _districts(place, district))
    if as_json:
        print(json.dumps(rows, default=str))  # noqa: T201 output for scripts
        return
    console = Console()
    for each in rows:
        table = Table(title=f"District {each['district_id']}", title_justify="left", show_header=False, box=None)
        for name, value in each.items():
            if name not in ("district_id", "held_files"):
                table.add_row(name.replace("_", " "), _text(value))
        console.print(table)
        for file in each["held_files"]:
            console.print(f"  held: {file['file']}: {file['message']}", markup=False, style="yellow", soft_wrap=True)


@app.command("layouts")
def show_layouts(
    file: Annotated[Path | None, typer.Argument(help="A file to recognise.", exists=True, dir_okay=False)] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """The known layouts; for a file: which one it is, what is renamed, missing or new."""
    from pipelines.status import known_layouts, layouts_of

    if file is None:
        rows = known_layouts()
        if as_json:
            print(json.dumps(rows))  # noqa: T201 output for scripts
            return
        table = Table("layout", "what it is", "event types", box=None)
        for row in rows:
            table.add_row(row["layout"], row["title"], row["events"])
        Console().print(table)
        return
    found = layouts_of(Home(home), file)
    if as_json:
        print(json.dumps(found))  # noqa: T201 output for scripts
    else:
        for each in found:
            for name, value in each.items():
                if value:
                    Console(highlight=False).print(f"{name:<14} {_text(value)}", markup=False, soft_wrap=True)
    raise typer.Exit(DONE if all(each["layout"] for each in found) else NOTHING)


@app.command("simulate")
def simulate_command(
    out: Annotated[Path, typer.Option(help="Landing folder to write to; one folder per district.")],
    districts: Annotated[int, typer.Option(min=1)] = 1,
    students: Annotated[int, typer.Option(min=200, help="In all districts together.")] = 3000,
    seed: Annotated[int, typer.Option()] = 1,
) -> None:
    """Write synthetic exports of any size, for tests and benchmarks."""
    from pipelines.simulate import simulate

    for each in simulate(out, districts=districts, students=students, seed=seed):
        Console().print(f"{each.id}: {len(each.files)} files in {each.path}", highlight=False)


@app.command()
def verify(home: HomeOption = DEFAULT_HOME, district: DistrictOption = None, as_json: JsonOption = False) -> None:
    """The log against its hashes, the ledger against the files, the projections against a rebuild."""
    from pipelines.verify import verify_home

    place = Home(home)
    with progress(quiet=as_json) as say:
        results = verify_home(place, _districts(place, district), say)
    if as_json:
        print(json.dumps(results, default=str))  # noqa: T201 output for scripts
    else:
        for each in results:
            mark = "ok " if each["is_passed"] else "NOT"
            Console(highlight=False).print(
                f"{mark} {each['district_id']}: {each['rule']}: {each['told']}", markup=False
            )
    raise typer.Exit(DONE if all(each["is_passed"] for each in results) else BLOCKED)


@app.command()
def ui(home: HomeOption = DEFAULT_HOME, port: Annotated[int, typer.Option(min=1, max=65535)] = 3000) -> None:
    """The Dagster UI on 127.0.0.1, with the sensor and the schedule ready to be switched on."""
    from pipelines.runs import dagster_home

    place = Home(home).make()
    os.environ["TIERLINE_HOME"] = str(place.root)
    os.environ["DAGSTER_HOME"] = str(dagster_home(place))
    command = [
        sys.executable,
        "-m",
        "dagster",
        "dev",
        "-m",
        "pipelines.definitions",
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
    ]
    os.execv(sys.executable, command)


@explain_app.command("class")
def explain_class(class_id: str, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Why a class is flagged or not: its numbers, its students' tests, and the lines they came from."""
    _explain("class", class_id, home, as_json)


@explain_app.command("student")
def explain_student(subject_key: str, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """A student's tiers, tests and cycles, and the lines they came from."""
    _explain("student", subject_key, home, as_json)


@explain_app.command("cycle")
def explain_cycle(cycle_id: str, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """A cycle's sessions, probes and outcome, and the lines they came from."""
    _explain("cycle", cycle_id, home, as_json)


def _explain(kind: str, key: str, home: Path, as_json: bool) -> None:
    from pipelines.explain import explain

    sections = explain(Home(home), kind, key)
    if not sections:
        fail(f"No {kind} is known by this id in {home}. `tierline status` says what is there.", NOTHING)
    if as_json:
        print(json.dumps({title: rows.to_dicts() for title, rows in sections.items()}, default=str))  # noqa: T201 output for scripts
        return
    console = Console()
    for title, rows in sections.items():
        table = Table(*rows.columns, title=title, title_justify="left", box=None)
        for row in rows.rows():
            table.add_row(*map(_text, row))
        console.print(table)


def _districts(home: Home, chosen: list[str] | None) -> list[str]:
    known = home.districts()
    if not known:
        fail(
            f"No district in {home.root}. Put files into landing/<district>/ and a policy into policy/<district>.toml;"
            " `tierline demo` shows how that looks.",
            NOTHING,
        )
    unknown = sorted(set(chosen or ()) - set(known))
    if unknown:
        fail(f"Unknown district: {', '.join(unknown)}. Known: {', '.join(known)}.", NOTHING)
    return sorted(chosen) if chosen else known


def _moment(text: str) -> datetime:
    """End of a day, or a time; UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        fail(f"--as-of {text}: write a day such as 2026-10-31 or a UTC time such as 2026-10-31T06:00:00.")
    if len(text) == len("2026-10-31"):
        moment = datetime.combine(moment.date(), time.max)
    return moment.replace(tzinfo=moment.tzinfo or UTC)


def _show_outcome(summary: dict[str, Any]) -> None:
    console = Console(highlight=False)
    for name, value in summary.items():
        if value not in (None, [], {}, ""):
            console.print(f"{name.replace('_', ' '):<22} {_text(value)}", markup=False, soft_wrap=True)


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return "; ".join(_text(each) for each in value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(each)}" for name, each in value.items())
    return str(value)


if __name__ == "__main__":
    main()
