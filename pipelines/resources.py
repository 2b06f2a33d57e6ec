"""What assets and sensors are given: the home named by TIERLINE_HOME, opened when a run or a tick starts."""

import os
from pathlib import Path

import dagster as dg

from pipelines.work import Work
from warehouse.home import Home

HOME_VARIABLE = "TIERLINE_HOME"
DEFAULT_HOME = "data"


def home_from_environment() -> Home:
    """The home that TIERLINE_HOME names, else `./data`."""
    return Home(Path(os.environ.get(HOME_VARIABLE) or DEFAULT_HOME))


@dg.resource(description=f"The home that {HOME_VARIABLE} names, else ./{DEFAULT_HOME}.")
def open_home(_context: dg.InitResourceContext) -> Work:
    """Opened anew for every run and tick."""
    return Work(home_from_environment())
