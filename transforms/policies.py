"""Which policy is in force: versions from a day on, calendars by school year (SEMANTICS 5.3)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import pairwise

import polars as pl

from schemas.contract import columns
from schemas.policy import DEFAULT_WINDOW_ENDS, DistrictPolicy, Window, policy_on_record
from schemas.projections import SEASONS, PolicySetting

_SETTING = ("district_id", "school_year", "setting", "from_on")
NO_CALENDAR = '{"no_school_days":[],"windows":[]}'
"""Document of a school year whose windows the district does not name."""


@dataclass(frozen=True)
class Span:
    """A policy and the days it is for; None on a side: without end."""

    policy: DistrictPolicy
    from_on: date | None = None
    until_on: date | None = None
    """First day of the next."""


@dataclass(frozen=True)
class History:
    """What one district decided: its policies by the first day each is for, its calendars by school year."""

    policies: Sequence[tuple[date, DistrictPolicy]]
    calendars: Mapping[str, str] = field(default_factory=dict)
    unread: Sequence[str] = ()
    """Settings on record that this release reads otherwise, and the day each was for."""

    @property
    def latest(self) -> DistrictPolicy:
        """The policy that begins last."""
        return self.policies[-1][1]

    def of_year(self, school_year: str) -> list[Span]:
        """The policies of a school year with its calendar, in order; the first rules every day before it as well.

        What is plausible in a delivery is not dated: every span has it as the latest policy says.
        """
        begins, ends = _year_days(school_year, self.latest.year_starts_month)
        fixed = {**_calendar(self.calendars.get(school_year)), "quality": self.latest.quality}
        starts = [None, *(day for day, _ in self.policies[1:]), None]
        spans = [
            Span(policy.model_copy(update=fixed), start, end)
            for (start, end), (_, policy) in zip(pairwise(starts), self.policies, strict=True)
        ]
        return [
            span
            for span in spans
            if (span.until_on is None or span.until_on > begins) and (span.from_on is None or span.from_on < ends)
        ]


def policy_settings(plans: Mapping[str, Sequence[Span]], years: pl.DataFrame) -> pl.DataFrame:
    """``PolicySetting`` rows without ``input_id``.

    Args:
        plans: Policies of each district in one school year.
        years: ``district_id``, ``school_year``: the partitions meant.
    """
    rows = [
        (district, place, setting, value, is_default, span.from_on, span.until_on, span.policy.source)
        for district, spans in sorted(plans.items())
        for span in spans
        for place, (setting, value, is_default) in enumerate(span.policy.settings(), 1)
    ]
    schema = {name: dtype for name, dtype in columns(PolicySetting).items() if name not in {"school_year", "input_id"}}
    return pl.DataFrame(rows, schema=schema, orient="row").join(years.unique(), on="district_id").sort(_SETTING)


def history(rules: pl.DataFrame) -> History | None:
    """The history that one district's current `rules` facts tell; None before the first policy."""
    recorded = rules.filter(pl.col("event_type") == "PolicySet").sort("valid_from").select("valid_from", "document")
    read = [(day, *policy_on_record(document)) for day, document in recorded.rows()]
    policies = [(day, policy.model_copy(update={"valid_from": day})) for day, policy, _ in read]
    unread = [f"{setting} of {day.isoformat()}" for day, _, settings in read for setting in settings]
    calendars = rules.filter(pl.col("event_type") == "CalendarSet").select("calendar_year", "document").rows()
    return History(policies, dict(calendars), unread) if policies else None


def last_closed(policy: DistrictPolicy, school_years: Sequence[str], today: date) -> date | None:
    """Last day of the latest window of these school years that is over; None where none is."""
    over = [end for year in school_years for end in window_ends(policy, year).values() if end < today]
    return max(over, default=None)


def closed_differs(before: str, after: str, policy: DistrictPolicy, school_year: str, today: date) -> bool:
    """Whether two calendars of a school year differ in a window that is over by either, or in free days until then."""
    calendars = [policy.model_copy(update=_calendar(document)) for document in (before, after)]
    ends = [window_ends(each, school_year) for each in calendars]
    over = [season for season in SEASONS if any(each[season] < today for each in ends)]
    last = max((each[season] for each in ends for season in over), default=date.min)

    def closed(calendar: DistrictPolicy) -> tuple[list[Window], list[date]]:
        windows = sorted((w for w in calendar.windows if w.season in over), key=lambda w: w.season)
        return windows, sorted(day for day in calendar.no_school_days if day <= last)

    return bool(over) and closed(calendars[0]) != closed(calendars[1])


def window_ends(policy: DistrictPolicy, school_year: str) -> dict[str, date]:
    """Last day of each window of a school year, by season: as configured, else the default of SEMANTICS 6.1."""
    year = int(school_year)
    found = {season: date(year - (month > 6), month, day) for season, (month, day) in DEFAULT_WINDOW_ENDS.items()}
    found["spring"] = _year_days(school_year, policy.year_starts_month)[1] - timedelta(days=1)
    for window in policy.windows:
        if window.school_year == school_year and window.ends_on:
            found[window.season] = window.ends_on
    return found


def _year_days(school_year: str, starts_month: int) -> tuple[date, date]:
    """First day of a school year, and of the next; a year is named for its end."""
    year = int(school_year) - (starts_month > 1)
    return date(year, starts_month, 1), date(year + 1, starts_month, 1)


def _calendar(document: str | None) -> dict[str, object]:
    said = json.loads(document) if document else {}
    return {
        "windows": tuple(Window.model_validate(each) for each in said.get("windows", ())),
        "no_school_days": tuple(date.fromisoformat(each) for each in said.get("no_school_days", ())),
    }
