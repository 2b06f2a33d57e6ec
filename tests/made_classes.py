"""Membership and need rows from counts per class, so that a test states only what it is about."""

from collections.abc import Iterable
from datetime import date
from typing import Any

import polars as pl

from schemas.contract import columns, empty
from schemas.policy import DistrictPolicy
from schemas.projections import ClassMembership, NeedLevel, QualityResult

POLICY = DistrictPolicy(time_zone="America/Denver")
REFERENCE_ON = {"fall": date(2025, 9, 15), "winter": date(2026, 1, 20), "spring": date(2026, 5, 4)}
DEFAULTS: dict[str, Any] = {
    "district_id": "d1",
    "school_year": "2026",
    "window": "winter",
    "measure": "map_growth_math",
    "school": "s1",
    "grade": "4",
    "section": "regular",
    "mobile": 0,
    "alternate": 0,
    "watch": 0,
}


def school_data(classes: Iterable[dict[str, Any]]) -> tuple[pl.LazyFrame, pl.LazyFrame]:
    """Memberships and needs of classes given as `cls, y, n, roster` and what differs from ``DEFAULTS``.

    The first `y` students are in need, the next `n - y` are not, the others are untested; mobile and
    alternate-assessment members come on top and are all tested and in need, so that counting them shows.
    """
    members, needs, seen = [], [], set()
    for given in classes:
        row = DEFAULTS | given
        for place in range(row["roster"] + row["mobile"] + row["alternate"]):
            subject = f"{row['district_id']}-{row['school_year']}-{row['cls']}-{place}"
            extra = place - row["roster"]
            key = (row["district_id"], row["school_year"], row["window"], subject)
            if key not in seen:
                seen.add(key)
                members.append(
                    {
                        "district_id": row["district_id"],
                        "school_year": row["school_year"],
                        "benchmark_window": row["window"],
                        "subject_key": subject,
                        "reference_on": REFERENCE_ON[row["window"]],
                        "school_id": row["school"],
                        "grade": row["grade"],
                        "class_id": row["cls"],
                        "section_type": row["section"],
                        "is_mobile": 0 <= extra < row["mobile"],
                        "is_alternate_assessment": extra >= row["mobile"],
                    }
                )
            if place < row["n"] or extra >= 0:
                in_need = place < row["y"] or extra >= 0
                needs.append(
                    {
                        "district_id": row["district_id"],
                        "school_year": row["school_year"],
                        "benchmark_window": row["window"],
                        "subject_key": subject,
                        "measure": row["measure"],
                        "status": "tested",
                        "is_in_need": in_need,
                        "need_level": "tier_2" if in_need or place < row["y"] + row["watch"] else "none",
                    }
                )
    return frame(members, ClassMembership), frame(needs, NeedLevel)


def frame(rows: list[dict[str, Any]], contract: Any) -> pl.LazyFrame:
    """Rows as a frame of the contract; what they leave out is null."""
    schema = columns(contract)
    return pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema=schema, orient="row").lazy()


def quality(*rows: dict[str, Any]) -> pl.LazyFrame:
    """Quality results; without rows none were made."""
    if not rows:
        return empty(QualityResult).lazy()
    made = [
        {"district_id": "d1", "school_year": "2026", "is_blocking": True, "is_passed": False, "rows": 1} | row
        for row in rows
    ]
    return frame(made, QualityResult)
