"""The command line. Exit codes: 0 done, 1 a check blocked, 2 wrong use, 3 nothing matched."""

import gc
from pathlib import Path
from traceback import extract_tb
from typing import Annotated

import typer

from pipelines.commands import giving, keeping, records, rights, running
from pipelines.commands.options import BLOCKED, fail
from warehouse.faults import FORBIDDEN, disk_fault

OURS = frozenset({"pipelines", "transforms", "schemas", "warehouse"})

app = typer.Typer(
    name="tierline",
    help="Student, classroom or system? From school data exports to flagged classrooms, every row accounted for.",
    epilog="Exit codes: 0 done; 1 a check blocked or something failed; 2 wrong use; 3 nothing matched.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for group in (running, giving, records, rights, keeping):
    app.add_typer(group.app)


def main() -> None:
    """Entry point: an error is a line or two, without a trace that could show data."""
    gc.set_threshold(50_000, 20, 100)  # modules stay: looking through them for garbage is a fifth of their import
    try:
        app()
    except Exception as error:
        fail(_told(error), BLOCKED)


def _told(error: Exception) -> str:
    """An error of ours in its own words; of any other its type and place, because its words may hold a cell."""
    if type(error).__module__.partition(".")[0] in OURS:
        return str(error)
    fault, named = disk_fault(error), getattr(error, "filename", None)
    if fault and not (named and fault is FORBIDDEN):
        return f"{named or 'The home'}: {fault}. Nothing that was loaded is lost."
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}. Check that it exists and that you may read and write it."
    trace = extract_tb(error.__traceback__)
    place = next((each for each in reversed(trace) if OURS & set(Path(each.filename).parts[-3:-1])), trace[-1])
    return (
        f"A fault in Tierline: {type(error).__name__} in {place.name}, {Path(place.filename).name} line {place.lineno}."
        " What was under way has not happened: nothing half-done is ever read. Run it again, and report this line"
        " if it comes back; it holds nothing of the data."
    )


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


if __name__ == "__main__":
    main()
