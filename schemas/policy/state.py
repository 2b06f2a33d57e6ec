"""What a state publishes: thresholds, by profile or by `policy/state.toml`."""

from typing import Literal

from pydantic import Field

from schemas.policy.model import Policy

StateProfile = Literal["default", "colorado"]


class StatePolicy(Policy):
    """Thresholds of a publication (SEMANTICS 8.1)."""

    profile: StateProfile = "default"
    min_n: int = Field(default=10, ge=10, description="Fewest students of a cell of which anything is published.")
    min_category: int = Field(
        default=10, ge=4, description="Least count, complement or level that is published as a number."
    )
    protect_zero: bool = Field(default=False, description="Whether counts of zero are withheld as well.")
    source: str | None = Field(default=None, description="Document or decision behind these numbers.")


PROFILES: dict[StateProfile, StatePolicy] = {
    "default": StatePolicy(),
    "colorado": StatePolicy(
        profile="colorado", min_n=16, min_category=4, source="Colorado Department of Education, 2015-16"
    ),
}
