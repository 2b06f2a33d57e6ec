"""Files in, tables up to date, and whether all of it is right."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.options import (
    BLOCKED,
    DEFAULT_HOME,
    DONE,
    NOTHING,
    ByOption,
    DistrictOption,
    HomeOption,
    JsonOption,
    YearOption,
    complete_district,
    districts_of,
    fail,
    moment_of,
)
from pipelines.terminal import (
    console_of,
    print_json,
    progress,
    show_changes,
    show_fields,
    show_flags,
    show_recognised,
    show_table,
    text_of,
)
from warehouse.home import Home

app = typer.Typer()


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
    moment = None if as_of is None else moment_of(as_of)
    if school_year is not None and not (len(school_year) == len("2026") and school_year.isdigit()):
        fail(f"--school-year {school_year}: write the year in which it ends, such as 2026 for 2025-26.")
    place = Home(home)
    districts = districts_of(place, district)

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
    times = moment_of(earlier, "The earlier time"), moment_of(later, "The later time")
    if times[0] >= times[1]:
        fail(f"{earlier} is not before {later}. Write the earlier time first.")
    place = Home(home)
    districts = districts_of(place, district)

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
    districts = districts_of(place, district)

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
        typer.Option("--district", "-d", help="Whose roster to try it with.", autocompletion=complete_district),
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
        districts_of(place, [district])
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
    districts = districts_of(place, district)

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
