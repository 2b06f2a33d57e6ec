"""How many examples a property is tried on."""

import os

from hypothesis import HealthCheck, settings

ALL = os.environ.get("EXAMPLES") == "all"


def examples(number: int, share: int = 5) -> settings:
    """A share of so many examples, the same ones every time; `make slow` tries all of them (EXAMPLES=all), ever new."""
    return settings(
        max_examples=number if ALL else max(1, number // share),
        derandomize=not ALL,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
