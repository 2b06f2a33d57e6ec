"""Commands that keep a home: a backup while it runs, and a home made from one."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.options import DEFAULT_HOME, HomeOption, JsonOption, districts_of
from pipelines.terminal import console_of, print_json, progress, show_fields
from warehouse.home import Home

app = typer.Typer()


@app.command()
def backup(
    destination: Annotated[Path, typer.Argument(metavar="DEST", help="A new folder, outside the home.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Copy what cannot be made again: log, vault with its secret, notes, archive, policies. Runs may go on."""
    place = Home(home)
    districts_of(place, None)

    from warehouse.backup import back_up

    with progress(quiet=as_json) as say:
        told = back_up(place, destination, say)
    if as_json:
        print_json(told)
        return
    show_fields(told)
    console_of().print(
        "It holds names: encrypt it, and keep it as short as your retention rules say.", markup=False, soft_wrap=True
    )


@app.command()
def restore(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="A backup.", exists=True, file_okay=False)],
    home: HomeOption = DEFAULT_HOME,
    over: Annotated[bool, typer.Option("--over", help="What is in the home is moved aside first.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a home of a backup, after every file of it was checked. The next run makes projections and warehouse."""
    from warehouse.backup import restore as make_home

    with progress(quiet=as_json) as say:
        told = make_home(source, Home(home), over=over, say=say)
    if as_json:
        print_json(told)
        return
    show_fields(told)
    console_of().print("Now: `tierline run` makes the tables, `tierline verify` checks them.", markup=False)
