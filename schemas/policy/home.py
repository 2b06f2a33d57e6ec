"""What the agency decided for its home as a whole: `policy/home.toml`."""

import json
from typing import Self

from pydantic import Field, model_validator

from schemas.policy.model import Policy

NO_LINKS = "{}"
"""Document of a home in which no history follows a student from one district to another."""


class HomePolicy(Policy):
    """Settings of a whole home (SEMANTICS 3.5)."""

    cross_district_links: bool = Field(
        default=False, description="Whether a state id makes students of two districts one, whose history follows."
    )
    agreement: str | None = Field(
        default=None, min_length=1, description="The agreement between the districts that allows it."
    )
    state_id_types: tuple[str, ...] = Field(
        default=("state", "user_id:state"),
        description="Ids of rosters that are the state's; OneRoster's userIds are `user_id:` and the type in lower"
        " case.",
    )

    @model_validator(mode="after")
    def _is_agreed(self) -> Self:
        if self.cross_district_links and not self.agreement:
            raise ValueError("cross_district_links = true needs agreement = the document that allows it")
        return self

    @property
    def document(self) -> str:
        """What goes on record, as JSON."""
        return json.dumps({"agreement": self.agreement}) if self.cross_district_links else NO_LINKS
