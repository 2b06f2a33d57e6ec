"""What every part of a policy shares: the base model, and the kinds of its values."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from schemas.projections import SEASONS

ON_RECORD = {"is_on_record": True}
"""Context in which a policy is read that was decided before: settings are not held against one another."""
Season = Literal["fall", "winter", "spring"]
Scale = Literal["score", "rasch"]
GRADES = ("PK", "K", *map(str, range(1, 13)))


class Policy(BaseModel):
    """A part of a policy: it never changes, and a setting it does not know is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _grade(value: str) -> str:
    if value not in GRADES:
        raise ValueError(f"{value} is no grade; grades are PK, K and 1 to 12")
    return value


Share = Annotated[float, Field(ge=0, le=1)]
Days = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Grade = Annotated[str, AfterValidator(_grade)]


def as_read(label: str) -> str:
    """A vendor's word as it is compared: without case and surrounding blanks."""
    return label.strip().lower()


def season_order(season: str) -> int:
    """0 fall, 1 winter, 2 spring."""
    return SEASONS.index(season)
