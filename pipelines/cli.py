"""The command line. Exit codes: 0 done, 1 a check blocked, 2 wrong use, 3 nothing matched."""

import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime, time
from pathlib import Path
from traceback import extract_tb
from typing import Annotated, Any, Literal, NoReturn

import typer

from pipelines import cli_keeping
from pipelines.terminal import (
    console_of,
    print_json,
    progress,
    show_changes,
    show_fields,
    show_flags,
    show_recognised,
    show_section,
    show_table,
    text_of,
)
from warehouse.faults import disk_fault
from warehouse.home import Home

DONE, BLOCKED, WRONG_USE, NOTHING = 0, 1, 2, 3
OURS = frozenset({"pipelines", "transforms", "schemas", "warehouse"})

app = typer.Typer(
    name="tierline",
    help="Student, classroom or system? From school data exports to flagged classrooms, every row accounted for.",
    epilog="Exit codes: 0 done; 1 a check blocked or something failed; 2 wrong use; 3 nothing matched.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
explain_app = typer.Typer(no_args_is_help=True, help="The chain from a decision back to file and line.")
app.add_typer(explain_app, name="explain")
student_app = typer.Typer(
    no_args_is_help=True, help="State that two keys are one student, or that facts are another's."
)
app.add_typer(student_app, name="student")
cli_keeping.register(app)

HomeOption = Annotated[
    Path, typer.Option("--home", envvar="TIERLINE_HOME", help="Folder of the agency's data.", show_default="./data")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]
DEFAULT_HOME = Path("data")
MOST_SHOWN = 20
NOTEBOOK = Path(__file__).with_name("notebook.py")


def _complete_district(context: typer.Context, incomplete: str) -> list[str]:
    home = context.params.get("home") or os.environ.get("TIERLINE_HOME") or DEFAULT_HOME
    return [name for name in Home(Path(home)).districts() if name.startswith(incomplete)]


DistrictOption = Annotated[
    list[str] | None,
    typer.Option("--district", "-d", help="Only these districts.", autocompletion=_complete_district),
]
WindowOption = Annotated[
    str | None,
    typer.Option("--window", help="Only fall, winter or spring.", autocompletion=lambda: ["fall", "winter", "spring"]),
]
MeasureOption = Annotated[str | None, typer.Option("--measure", help="Only this measure, such as map_growth_math.")]
ByOption = Annotated[
    Literal["recorded", "received"],
    typer.Option("--by", help="received: a backfilled file counts from the day it was declared received."),
]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, in words; kept with the notes alone.")]
YearOption = Annotated[str | None, typer.Option("--school-year", help="Only this school year, by its ending year.")]


def main() -> None:
    """Entry point: an error is a line or two, without a trace that could show data."""
    try:
        app()
    except Exception as error:
        fail(_told(error), BLOCKED)


def _told(error: Exception) -> str:
    """An error of ours in its own words; of any other its type and place, because its words may hold a cell."""
    if type(error).__module__.partition(".")[0] in OURS:
        return str(error)
    if fault := disk_fault(error):
        return f"{getattr(error, 'filename', None) or 'The home'}: {fault}. Nothing that was loaded is lost."
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}. Check that it exists and that you may read and write it."
    trace = extract_tb(error.__traceback__)
    place = next((each for each in reversed(trace) if OURS & set(Path(each.filename).parts[-3:-1])), trace[-1])
    return (
        f"A fault in Tierline: {type(error).__name__} in {place.name}, {Path(place.filename).name} line {place.lineno}."
        " What was under way has not happened: nothing half-done is ever read. Run it again, and report this line"
        " if it comes back; it holds nothing of the data."
    )


def fail(message: str, code: int = WRONG_USE) -> NoReturn:
    """Say what is wrong and end."""
    console_of(stderr=True).print(message, style="red", markup=False, soft_wrap=True)
    raise SystemExit(code)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"tierline {version('tierline')}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version and end.")
    ] = False,
) -> None:
    pass


@app.command()
def demo(
    home: Annotated[Path, typer.Option("--home", envvar="TIERLINE_HOME", show_default="./data")] = DEFAULT_HOME,
    students: Annotated[int, typer.Option(min=200, help="Students of the synthetic district.")] = 3000,
) -> None:
    """Make a synthetic district in real vendor layouts, run everything, say what was found and where to look."""
    from pipelines.demo import findings, is_free, make_demo
    from pipelines.runs import run_graph

    place = Home(home)
    if not is_free(place):
        fail(f"{home} holds districts of its own. Give the demo a folder for itself: tierline demo --home demo")
    console = console_of()
    with progress(quiet=False) as say:
        say("Simulating a district")
        districts = make_demo(place, students)
        outcome = run_graph(place, districts, progress=say)
    if outcome.failed:
        fail("\n".join(f"{district}: {told}" for district, told in outcome.failed.items()), BLOCKED)
    console.print("Tierline demo: one synthetic district, nobody in it is real.", style="bold")
    for line in findings(place.warehouse, place):
        console.print(line, markup=False, soft_wrap=True)
    raise typer.Exit(outcome.exit_code)


@app.command()
def run(
    home: HomeOption = DEFAULT_HOME,
    district: DistrictOption = None,
    school_year: YearOption = None,
    as_of: Annotated[
        str | None, typer.Option(help="Rebuild what was known then: a day or a UTC time. Needs --out.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where a rebuild of the past goes.")] = None,
    by: ByOption = "recorded",
    as_json: JsonOption = False,
) -> None:
    """Load what landed and materialise what changed."""
    if (as_of is None) != (out is None):
        fail("--as-of and --out go together: a day in the past is rebuilt beside the present, never over it.")
    if by == "received" and as_of is None:
        fail("--by received goes with --as-of: it says since when a file counts as known.")
    moment = None if as_of is None else _moment(as_of)
    if school_year is not None and not (len(school_year) == len("2026") and school_year.isdigit()):
        fail(f"--school-year {school_year}: write the year in which it ends, such as 2026 for 2025-26.")
    place = Home(home)
    districts = _districts(place, district)

    from pipelines.runs import rebuild_as_of, run_graph

    place.make()
    with progress(quiet=as_json) as say:
        if moment is not None and out is not None:
            outcome = rebuild_as_of(place, districts, moment, out, by=by, progress=say)
        else:
            outcome = run_graph(place, districts, school_year=school_year, progress=say)
    if as_json:
        print_json(outcome.summary())
    else:
        show_fields(outcome.summary())
    raise typer.Exit(outcome.exit_code)


@app.command()
def diff(
    earlier: Annotated[str, typer.Argument(help="A day (its end) or a UTC time.")],
    later: Annotated[str, typer.Argument(help="A later day or time.")],
    home: HomeOption = DEFAULT_HOME,
    district: DistrictOption = None,
    by: ByOption = "recorded",
    as_json: JsonOption = False,
) -> None:
    """Which flags, tiers and outcomes are others at the later time, and through which files. Keys and counts only."""
    times = _moment(earlier, "The earlier time"), _moment(later, "The later time")
    if times[0] >= times[1]:
        fail(f"{earlier} is not before {later}. Write the earlier time first.")
    place = Home(home)
    districts = _districts(place, district)

    from pipelines.differences import differences
    from pipelines.runs import policies_of
    from warehouse.log import Log

    policies = policies_of(place)
    unusable = sorted(set(districts) - set(policies))
    if unusable:
        fail(f"The policy of {', '.join(unusable)} cannot be used. `tierline status` says why.", BLOCKED)
    with progress(quiet=as_json) as say:
        changes = differences(Log(place), policies, districts, times, by=by, progress=say)
    if as_json:
        print_json({"from": times[0], "to": times[1], "changes": changes})
    else:
        show_changes(changes)
    raise typer.Exit(DONE if changes else NOTHING)


@app.command()
def status(home: HomeOption = DEFAULT_HOME, district: DistrictOption = None, as_json: JsonOption = False) -> None:
    """Files, rows by outcome, refused, stale, flags."""
    place = Home(home)
    districts = _districts(place, district)

    from pipelines.status import status_of

    rows = status_of(place, districts)
    if as_json:
        print_json(rows)
        return
    console = console_of()
    for each in rows:
        console.print(f"District {each['district_id']}", style="bold")
        for name, value in each.items():
            if name not in ("district_id", "held_files", "flags", "failed_rules", "stale"):
                console.print(f"  {name.replace('_', ' '):<18} {text_of(value)}", markup=False, soft_wrap=True)
        for reason in each["stale"]:
            console.print(f"  stale: {reason}", markup=False, style="yellow", soft_wrap=True)
        for file in each["held_files"]:
            console.print(f"  held: {file['file']}: {file['message']}", markup=False, style="yellow", soft_wrap=True)
        for rule in each["failed_rules"]:
            told = f"  failed: {rule['school_year']} {rule['about']}: {rule['rule']} ({rule['rows']} rows)"
            console.print(told, markup=False, style="yellow", soft_wrap=True)
        show_flags(each["flags"])


@app.command("layouts")
def show_layouts(
    file: Annotated[Path | None, typer.Argument(help="A file to recognise.", exists=True, dir_okay=False)] = None,
    home: HomeOption = DEFAULT_HOME,
    district: Annotated[
        str | None,
        typer.Option("--district", "-d", help="Whose roster to try it with.", autocompletion=_complete_district),
    ] = None,
    layout: Annotated[str | None, typer.Option(help="The layout meant, where several are as near.")] = None,
    alias: Annotated[
        list[str] | None, typer.Option(help='Which header a column has now: --alias score="Scale Score".')
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Write the proposed alias file into the home.")] = False,
    as_json: JsonOption = False,
) -> None:
    """The known layouts; for a file: which one it is, what is renamed, missing or new, and how it would load.

    Shows names of headers and counts, never a cell. Nothing is loaded.
    """
    if file is None:
        from pipelines.status import known_layouts

        rows = known_layouts()
        if as_json:
            print_json(rows)
        else:
            show_table([list(row.values()) for row in rows], ["layout", "what it is", "event types"])
        return

    from pipelines.aliases import Asked, look_at, write_aliases

    named = tuple(_named(each) for each in alias or ())
    place = Home(home)
    if district is not None:
        _districts(place, [district])
    looked, told = look_at(place, file, Asked(district, layout, named))
    if as_json:
        written = write_aliases(place, looked) if write else []
        print_json([each | {"is_written": str(each["alias_file"]) in written} for each in told])
    else:
        for number, each in enumerate(told):
            if number:
                console_of().print()
            show_recognised(each)
        written = write_aliases(place, looked) if write else []
        for name in written:
            console_of().print(f"Written: {name}. The next run reads the file with it.", markup=False, soft_wrap=True)
    known = all(each["layout"] or str(each["alias_file"]) in written for each in told)
    raise typer.Exit(DONE if known else NOTHING)


def _named(text: str) -> tuple[str, str]:
    column, equals, header = text.partition("=")
    if not equals or not column.strip() or not header.strip():
        fail(f'--alias {text}: write a column and its header, such as --alias score="Scale Score".')
    return column.strip(), header.strip()


@app.command("simulate")
def simulate_command(
    out: Annotated[Path, typer.Option(help="Landing folder to write to; one folder per district.")],
    districts: Annotated[int, typer.Option(min=1)] = 1,
    students: Annotated[int, typer.Option(min=200, help="In all districts together.")] = 3000,
    seed: Annotated[int, typer.Option(help="Same seed and numbers, same bytes.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Write synthetic exports of any size, for tests and benchmarks."""
    from pipelines.simulate import simulate

    with progress(quiet=as_json) as say:
        say(f"{students} students")
        made = simulate(out, districts=districts, students=students, seed=seed)
    if as_json:
        print_json([{"district_id": each.id, "path": each.path, "files": len(each.files)} for each in made])
        return
    for each in made:
        console_of().print(f"{each.id}: {len(each.files)} files in {each.path}", markup=False, soft_wrap=True)


@app.command()
def verify(home: HomeOption = DEFAULT_HOME, district: DistrictOption = None, as_json: JsonOption = False) -> None:
    """The log against its hashes, the ledger against the files, the projections against a rebuild."""
    place = Home(home)
    districts = _districts(place, district)

    from pipelines.expectations import plausible
    from pipelines.verify import verify_home

    with progress(quiet=as_json) as say:
        results = verify_home(place, districts, say, plausible)
    if as_json:
        print_json(results)
    else:
        for each in results:
            mark, style = ("ok ", "") if each["is_passed"] else ("NOT", "red")
            told = f"{mark} {each['district_id']}: {each['rule']}: {each['told']}"
            console_of().print(told, style=style, markup=False, soft_wrap=True)
    raise typer.Exit(DONE if all(each["is_passed"] for each in results) else BLOCKED)


@app.command("export")
def export_command(
    out: Annotated[Path, typer.Option(help="Folder to write to; made where it is missing.")],
    form: Annotated[
        Literal["parquet", "arrow", "csv"], typer.Option("--format", help="Kind of files; arrow is Arrow IPC.")
    ] = "parquet",
    table: Annotated[list[str] | None, typer.Option("--table", help="Only these, such as marts.tier_summary.")] = None,
    home: HomeOption = DEFAULT_HOME,
    district: DistrictOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are already there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Tables and answers of the warehouse as Parquet, Arrow or CSV, one file each."""
    place = Home(home)
    _districts(place, district)

    from warehouse.export import export
    from warehouse.publish import EDUCATION_RECORD

    with progress(quiet=as_json) as say:
        say("Exporting")
        rows = export(place.warehouse, out, form=form, tables=table or (), districts=district or (), force=force)
    if as_json:
        print_json([{"file": str(path), "rows": count} for path, count in rows.items()])
        return
    show_table([[str(path), count] for path, count in rows.items()], ["file", "rows"])
    console_of().print(f"Of each: {EDUCATION_RECORD[0].lower()}{EDUCATION_RECORD[1:]}", markup=False)


@app.command()
def report(
    home: HomeOption = DEFAULT_HOME,
    district: DistrictOption = None,
    school_year: YearOption = None,
    with_names: Annotated[
        bool, typer.Option("--with-names", help="Show names, for a person who has the vault; a folder of its own.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the sites; reports/ of the home if absent.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make the report of each district: pages to open in a browser, from disk."""
    place = Home(home)
    districts = _districts(place, district)

    from pipelines.report.reading import NothingToReport
    from pipelines.report.site import build_report

    built, missing = [], []
    with progress(quiet=as_json) as say:
        for each in districts:
            say(f"Report of {each}")
            try:
                built.append(build_report(place, each, school_year, with_names=with_names, out=out))
            except NothingToReport as error:
                missing.append(str(error))
    if not built:
        fail("\n".join(missing), NOTHING)
    if as_json:
        print_json([{"folder": str(site.folder), "pages": site.pages, "bytes": site.bytes} for site in built])
        return
    for site in built:
        console_of().print(f"{site.pages} pages: {site.folder / 'index.html'}", markup=False, soft_wrap=True)
    for message in missing:
        console_of(stderr=True).print(message, markup=False, soft_wrap=True)


@app.command("publish-state")
def publish_state_command(
    out: Annotated[Path, typer.Option(help="Folder for the release, which gets a folder of its own in it.")],
    profile: Annotated[Literal["default", "colorado"], typer.Option(help="Thresholds.")] = "default",
    mode: Annotated[
        Literal["bands", "counts"], typer.Option(help="Shares in bands for the public, or counts for partners.")
    ] = "bands",
    as_of: Annotated[str | None, typer.Option(help="What was known then: a day or a UTC time.")] = None,
    school_year: YearOption = None,
    window: WindowOption = None,
    correct: Annotated[bool, typer.Option("--correct", help="Release a window again, if enough changed.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Publish aggregates of all districts that may leave, once the audit has passed; else no file."""
    place = Home(home)
    _districts(place, None)

    from pipelines.publication import Asked, NothingToPublish, publish_state

    moment = None if as_of is None else _moment(as_of)
    asked = Asked(mode, profile, moment, school_year, window, correct)
    with progress(quiet=as_json) as say:
        try:
            done = publish_state(place, asked, out, say)
        except NothingToPublish as error:
            fail(str(error), NOTHING)
    told = {"folder": str(done.folder), **{name: done.about[name] for name in ("release_id", "rows", "withheld")}}
    if as_json:
        print_json(told | {"audit": done.about["audit"]})
    else:
        show_fields(told)


@app.command("audit")
def audit_command(
    files: Annotated[
        list[Path], typer.Argument(help="Published tables, earliest first; or folders of reports/state/.", exists=True)
    ],
    describe: Annotated[
        Path | None, typer.Option(help="TOML that says what the columns are.", exists=True, dir_okay=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """What can be proven of withheld cells from published files, taken together. Nothing is changed."""
    from pipelines.published_audit import UnreadableSet, audit_files

    with progress(quiet=as_json) as say:
        say("Auditing")
        try:
            looked = audit_files(files, describe)
        except UnreadableSet as error:
            fail(str(error))
    rules = dict(looked.findings["rule"].value_counts().sort("rule").iter_rows())
    if as_json:
        print_json({"withheld_cells": looked.cells, "findings": rules, "cells": looked.findings.to_dicts()})
    else:
        show_fields({"withheld_cells": looked.cells, "findings": rules})
        for each in looked.findings.head(MOST_SHOWN).to_dicts():
            told = ", ".join(f"{name} {value}" for name, value in each.items() if value is not None)
            console_of().print(told, markup=False, soft_wrap=True)
    raise typer.Exit(BLOCKED if rules else DONE)


@app.command()
def alerts(
    test: Annotated[bool, typer.Option("--test", help="Send a message now.")] = False, as_json: JsonOption = False
) -> None:
    """Where alerts go, as the environment says; a run tells there what fails or waits for a person."""
    from pipelines.alerts import EMAIL, LEVEL, WEBHOOK, UnusableAlerts, send, settings

    try:
        wanted = settings()
    except UnusableAlerts as error:
        fail(str(error))
    if test and wanted.channels:
        send(wanted, "Tierline: a test", "Alerts arrive here.")
    told = {"channels": wanted.channels, "level": wanted.level, "is_sent": test and bool(wanted.channels)}
    if as_json:
        print_json(told)
    elif wanted.channels:
        show_fields(told)
    else:
        console_of().print(f"No alert is set up. Set {WEBHOOK} or {EMAIL}; {LEVEL}=any adds warnings.", markup=False)
    raise typer.Exit(DONE if wanted.channels else NOTHING)


@app.command()
def ui(home: HomeOption = DEFAULT_HOME, port: Annotated[int, typer.Option(min=1, max=65535)] = 3000) -> None:
    """The Dagster UI on 127.0.0.1, with the sensor and the schedule ready to be switched on."""
    place = Home(home)
    _districts(place, None)

    from pipelines.runs import dagster_home

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


@app.command()
def notebook(home: HomeOption = DEFAULT_HOME, port: Annotated[int, typer.Option(min=1, max=65535)] = 2718) -> None:
    """A walk through the warehouse in a browser, on 127.0.0.1; needs the extra `notebook`."""
    from importlib.util import find_spec

    place = Home(home)
    _districts(place, None)
    if not place.warehouse.exists():
        fail(f"There is no {place.warehouse.name} in {home} yet. `tierline run` publishes it.", NOTHING)
    if find_spec("marimo") is None:
        fail(f"The notebook needs marimo. Install it with: {sys.executable} -m pip install 'tierline[notebook]'")
    os.environ["TIERLINE_HOME"] = str(place.root)
    os.environ["MARIMO_SKIP_UPDATE_CHECK"] = "1"
    # a token, because others on the machine may not read education records
    options = ["--host", "127.0.0.1", "--port", str(port), "--token", "--include-code", "--no-sandbox"]
    os.execv(sys.executable, [sys.executable, "-m", "marimo", "run", str(NOTEBOOK), *options])


@explain_app.command("class")
def explain_class(
    class_id: str,
    home: HomeOption = DEFAULT_HOME,
    window: WindowOption = None,
    measure: MeasureOption = None,
    school_year: YearOption = None,
    as_json: JsonOption = False,
) -> None:
    """Why a class is flagged or not: its numbers, its students' tests, and the lines they came from."""
    only = {"benchmark_window": window, "measure": measure, "school_year": school_year}
    _explain("class", class_id, home, as_json, only)


@explain_app.command("student")
def explain_student(
    subject_key: str,
    home: HomeOption = DEFAULT_HOME,
    window: WindowOption = None,
    measure: MeasureOption = None,
    school_year: YearOption = None,
    as_json: JsonOption = False,
) -> None:
    """A student's tiers, tests and cycles, and the lines they came from."""
    only = {"benchmark_window": window, "measure": measure, "school_year": school_year}
    _explain("student", subject_key, home, as_json, only)


@explain_app.command("cycle")
def explain_cycle(cycle_id: str, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """A cycle's sessions, probes and outcome, and the lines they came from."""
    _explain("cycle", cycle_id, home, as_json, {})


@student_app.command("merge")
def student_merge(
    one: str, other: str, reason: ReasonOption, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False
) -> None:
    """Two subject keys are one student. The smaller key is shown from the next run on."""
    from pipelines.corrections import merge

    _state(home, lambda place: merge(place, one, other, reason), as_json)


@student_app.command("unmerge")
def student_unmerge(
    one: str, other: str, reason: ReasonOption, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False
) -> None:
    """Take the merge of two subject keys back: all is as it was before."""
    from pipelines.corrections import unmerge

    _state(home, lambda place: unmerge(place, one, other, reason), as_json)


@student_app.command("split")
def student_split(
    here: Annotated[str, typer.Argument(metavar="FROM", help="Key under which the facts are shown.")],
    there: Annotated[str, typer.Argument(metavar="TO", help="Key of the student whose they are, or new.")],
    events: Annotated[list[str], typer.Argument(help="Event ids, as `tierline explain student` shows them.")],
    reason: ReasonOption,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """These facts are another student's. Splitting them back undoes it."""
    from pipelines.corrections import split

    _state(home, lambda place: split(place, here, there, events, reason), as_json)


@app.command()
def retract(
    event: Annotated[str, typer.Argument(help="Event id: that version. Natural key: the fact, in all its versions.")],
    reason: Annotated[str, typer.Option("--reason", help="A code of the list that a wrong one shows.")],
    note: Annotated[str | None, typer.Option("--note", help="Why, in words; kept with the notes alone.")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Take the retraction back.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Take an event back: the version of the fact before it stands again."""
    from pipelines.corrections import retract as take_back

    _state(home, lambda place: take_back(place, event, reason, note=note, undo=undo), as_json)


def _state(home: Path, doing: Callable[[Home], dict[str, Any]], as_json: bool) -> None:
    place = Home(home)
    _districts(place, None)

    from pipelines.corrections import NotPossible

    try:
        told = doing(place)
    except NotPossible as error:
        fail(str(error))
    if as_json:
        print_json(told)
        return
    conflicts = told.pop("conflicts", [])
    show_fields(told)
    if conflicts:
        show_table([list(each.values()) for each in conflicts], [name.replace("_", " ") for name in conflicts[0]])
    console_of().print("On record. `tierline run` brings the tables up to date.", markup=False)


def _explain(kind: str, key: str, home: Path, as_json: bool, only: dict[str, str | None]) -> None:
    place = Home(home)
    _districts(place, None)

    from pipelines.explain import explain, narrowed

    sections = explain(place, kind, key)
    if not sections:
        fail(f"No {kind} is known by this id in {home}. `tierline status` says what is there.", NOTHING)
    sections = narrowed(sections, {column: value for column, value in only.items() if value is not None})
    if not sections:
        fail(f"This {kind} has nothing in the window, measure or school year asked for.", NOTHING)
    if as_json:
        print_json({title: rows.to_dicts() for title, rows in sections.items()})
        return
    for title, rows in sections.items():
        show_section(title, rows)


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


def _moment(text: str, what: str = "--as-of") -> datetime:
    """End of a day, or a time; UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        fail(f"{what} {text}: write a day such as 2026-10-31 or a UTC time such as 2026-10-31T06:00:00.")
    if len(text) == len("2026-10-31"):
        moment = datetime.combine(moment.date(), time.max)
    return moment.replace(tzinfo=moment.tzinfo or UTC)


if __name__ == "__main__":
    main()
