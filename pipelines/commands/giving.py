"""What leaves the warehouse: files, pages, aggregates, messages, and two ways to look in a browser."""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from pipelines.commands.options import (
    BLOCKED,
    DEFAULT_HOME,
    DONE,
    NOTHING,
    DistrictOption,
    HomeOption,
    JsonOption,
    WindowOption,
    YearOption,
    districts_of,
    fail,
    moment_of,
)
from pipelines.terminal import (
    console_of,
    print_json,
    progress,
    show_fields,
    show_table,
)
from warehouse.home import Home

app = typer.Typer()
MOST_SHOWN = 20
NOTEBOOK = Path(__file__).parents[1] / "notebook.py"


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
    districts_of(place, district)

    from warehouse.export import export
    from warehouse.shape import EDUCATION_RECORD

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
    districts = districts_of(place, district)

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
    districts_of(place, None)

    from pipelines.publication import Asked, NothingToPublish, publish_state

    moment = None if as_of is None else moment_of(as_of)
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
    districts_of(place, None)

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
    districts_of(place, None)
    if not place.warehouse.exists():
        fail(f"There is no {place.warehouse.name} in {home} yet. `tierline run` publishes it.", NOTHING)
    if find_spec("marimo") is None:
        fail(f"The notebook needs marimo. Install it with: {sys.executable} -m pip install 'tierline[notebook]'")
    os.environ["TIERLINE_HOME"] = str(place.root)
    os.environ["MARIMO_SKIP_UPDATE_CHECK"] = "1"
    # a token, because others on the machine may not read education records
    options = ["--host", "127.0.0.1", "--port", str(port), "--token", "--include-code", "--no-sandbox"]
    os.execv(sys.executable, [sys.executable, "-m", "marimo", "run", str(NOTEBOOK), *options])
