"""Options that the commands share, and how they end."""

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from pipelines.terminal import console_of

DONE, BLOCKED, WRONG_USE, NOTHING = 0, 1, 2, 3
DEFAULT_HOME = Path("data")

HomeOption = Annotated[
    Path, typer.Option("--home", envvar="TIERLINE_HOME", help="Folder of the agency's data.", show_default="./data")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]


def fail(message: str, code: int = WRONG_USE) -> NoReturn:
    """Say what is wrong and end."""
    console_of(stderr=True).print(message, style="red", markup=False, soft_wrap=True)
    raise SystemExit(code)
