"""How many examples a property is tried on."""

import os

from hypothesis import HealthCheck, settings

ALL = os.environ.get("EXAMPLES") == "all"
SHARE = 5


def examples(number: int) -> settings:
    """A share of so many examples, the same ones every time; `make slow` tries all of them (EXAMPLES=all), ever new."""
    return settings(
        max_examples=number if ALL else max(1, number // SHARE),
        derandomize=not ALL,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
