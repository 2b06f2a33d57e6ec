"""Options that several commands share, and what is said of a wrong one."""

import os
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from pipelines.terminal import console_of
from warehouse.home import Home

DONE, BLOCKED, WRONG_USE, NOTHING = 0, 1, 2, 3

HomeOption = Annotated[
    Path, typer.Option("--home", envvar="TIERLINE_HOME", help="Folder of the agency's data.", show_default="./data")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]
DEFAULT_HOME = Path("data")


def complete_district(context: typer.Context, incomplete: str) -> list[str]:
    home = context.params.get("home") or os.environ.get("TIERLINE_HOME") or DEFAULT_HOME
    return [name for name in Home(Path(home)).districts() if name.startswith(incomplete)]


DistrictOption = Annotated[
    list[str] | None,
    typer.Option("--district", "-d", help="Only these districts.", autocompletion=complete_district),
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


def fail(message: str, code: int = WRONG_USE) -> NoReturn:
    """Say what is wrong and end."""
    console_of(stderr=True).print(message, style="red", markup=False, soft_wrap=True)
    raise SystemExit(code)


def districts_of(home: Home, chosen: list[str] | None) -> list[str]:
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


def moment_of(text: str, what: str = "--as-of") -> datetime:
    """End of a day, or a time; UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        fail(f"{what} {text}: write a day such as 2026-10-31 or a UTC time such as 2026-10-31T06:00:00.")
    if len(text) == len("2026-10-31"):
        moment = datetime.combine(moment.date(), time.max)
    return moment.replace(tzinfo=moment.tzinfo or UTC)
