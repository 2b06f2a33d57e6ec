"""Slow, obvious versions of the rules, over lists of dicts; a teacher could check them by hand."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from typing import Any

from schemas.policy import DistrictPolicy

Row = dict[str, Any]
SEASONS = ("fall", "winter", "spring")


def reference_window(test: Row, policy: DistrictPolicy) -> tuple[str | None, str]:
    """Window of a test and what placed it there."""
    day = test["occurred_on"]
    ranges = [w for w in policy.windows if w.school_year == test["school_year"] and w.begins_on]
    if ranges:
        for window in ranges:
            if day is not None and window.begins_on <= day <= window.ends_on:
                return window.season, "range"
        return None, "outside"
    own = {name.lower(): season for name, season in policy.season_names.items()}
    slot = (test["season_slot"] or "").strip().lower()
    if slot in own:
        return own[slot], "label"
    for label in (test["window_label"], test["season_slot"]):
        label = (label or "").strip().lower()
        said = own.get(label, label if label in (*SEASONS, "outside") else None)
        if said:
            return (None, "outside") if said == "outside" else (said, "label")
    if day is None:
        return None, "outside"
    year = int(test["school_year"])
    if day <= date(year - 1, 11, 15):
        return "fall", "date"
    return ("winter", "date") if day <= date(year, 3, 1) else ("spring", "date")


def reference_choice(tests: list[Row], rule: str) -> tuple[str, str]:
    """Which of several valid tests in a window counts: its key, and the rule that decided."""
    if len(tests) == 1:
        return tests[0]["natural_key"], "only_valid_test"
    if rule == "growth_measure":
        counted = [t for t in tests if t["is_growth_measure"]]
        if len(counted) == 1:
            return counted[0]["natural_key"], rule
        rule = "lowest_sem"
    if rule == "median3":
        days = sorted(
            {t["occurred_on"] for t in tests if sum(u["occurred_on"] == t["occurred_on"] for u in tests) >= 3}
        )
        if days:
            given = sorted(
                (t for t in tests if t["occurred_on"] == days[-1]), key=lambda t: (t["score"], t["natural_key"])
            )
            return given[(len(given) - 1) // 2]["natural_key"], rule

    def order(test: Row) -> tuple[Any, ...]:
        error = test["standard_error"]
        rounded = math.inf if error is None else math.floor(error * 10 + 0.5 + 1e-9)
        day = test["occurred_on"].toordinal()
        return (
            rounded if rule == "lowest_sem" else 0,
            day if rule == "first" else -day,
            -test["score"],
            test["natural_key"],
        )

    return min(tests, key=order)["natural_key"], rule


def reference_reference_on(tests: Iterable[Row], season: str, policy: DistrictPolicy, school_year: str) -> date | None:
    """Reference date of a window: configured, else the lower median day of tests exported in time, else of all."""
    year = int(school_year)
    end = {"fall": date(year - 1, 11, 15), "winter": date(year, 3, 1), "spring": date(year, 6, 30)}[season]
    for window in policy.windows:
        if (window.school_year, window.season) == (school_year, season):
            if window.reference_on:
                return window.reference_on
            end = window.ends_on or end
    valid = [t for t in tests if t["is_valid"] and t["benchmark_window"] == season]
    early = [t for t in valid if t["first_export_at"].date() <= end + timedelta(days=28)]
    days = sorted(t["occurred_on"] for t in (early or valid) if t["occurred_on"])
    return days[(len(days) - 1) // 2] if days else None


def reference_school_days(start: date, stop: date, policy: DistrictPolicy) -> int:
    """School days from one date to before another; negative where the second is earlier."""
    if stop < start:
        return -reference_school_days(stop, start, policy)
    days = (start + timedelta(days=n) for n in range((stop - start).days))
    return sum(day.weekday() < 5 and day not in policy.no_school_days for day in days)


def reference_math_basis(listed: Row, course: Row | None, policy: DistrictPolicy) -> str | None:
    """Whether a class is a math class, and what says so."""
    course = course or {}
    codes = ";".join(filter(None, (listed["subject_codes"], course.get("subject_codes"), course.get("course_code"))))
    if any(code.strip().startswith(start) for code in codes.split(";") if code for start in policy.math_codes):
        return "subject_code"
    words = ";".join(
        filter(None, (listed["subjects"], course.get("subjects"), course.get("course_title"), listed["title_terms"]))
    )
    found = "".join(c if c.isalpha() else " " for c in words.lower()).split()
    return "title" if any(word.startswith(math) for word in found for math in policy.math_words) else None


def reference_section(listed: Row, course: Row | None, policy: DistrictPolicy) -> str:
    """Kind of section by the words of its title."""
    text = ";".join(filter(None, ((course or {}).get("course_title"), listed["title_terms"])))
    found = set("".join(c if c.isalpha() else " " for c in text.lower()).split())
    if found & set(policy.remedial_words):
        return "remedial"
    return "advanced" if found & set(policy.advanced_words) else "regular"


def reference_membership(
    subject: str,
    day: date,
    roster: list[Row],
    grade: str | None,
    policy: DistrictPolicy,
    looked_on: date | None = None,
) -> Row | None:
    """Math class of one student of one district and year on a day; None where not enrolled.

    ``looked_on`` is the day of the student's test or of the census, where the policy goes by it.
    """
    kept = [row for row in roster if not row["is_deleted"]]
    listed = {row["class_id"]: row for row in kept if row["event_type"] == "ClassListed"}
    courses = {row["course_id"]: row for row in kept if row["event_type"] == "CourseListed"}
    terms = {row["term_id"]: row for row in kept if row["event_type"] == "TermListed"}

    def terms_of(class_id: str) -> list[Row]:
        ids = (listed.get(class_id) or {}).get("term_ids") or ""
        return [terms[t] for t in ids.split(";") if t in terms]

    def first_day(row: Row) -> date | None:
        begins = [t["begin_on"] for t in terms_of(row["class_id"]) if t["begin_on"]]
        return row["begin_on"] or min(begins, default=None)

    def last_day(row: Row) -> date | None:
        ends = [t["end_on"] for t in terms_of(row["class_id"]) if t["end_on"]]
        found = [row["end_on"] or max(ends, default=None)]
        found += [
            other["end_on"] or other["occurred_on"]
            for other in kept
            if other["event_type"] == "EnrollmentEnded"
            and all(other[k] == row[k] for k in ("subject_key", "class_id", "begin_on"))
        ]
        return min((d for d in found if d), default=None)

    enrolled = [row for row in kept if row["event_type"] == "StudentEnrolled"]
    mine = [row for row in enrolled if row["subject_key"] == subject]

    def enrolled_on(at: date) -> list[Row]:
        return [row for row in mine if (first_day(row) or date.min) <= at and (last_day(row) or date.max) >= at]

    def days_of(class_id: str) -> int:
        year_began = date(2025, policy.year_starts_month, 1)
        spells = [
            (min(last_day(row) or day, day) - max(first_day(row) or year_began, year_began)).days + 1
            for row in mine
            if row["class_id"] == class_id
        ]
        return sum(spell for spell in spells if spell > 0)

    present = enrolled_on(day)
    if not present:
        return None
    wanted = policy.classes.membership
    elsewhere = enrolled_on(looked_on) if looked_on else []
    if wanted == "majority":
        elsewhere = [row for row in mine if days_of(row["class_id"])]
    decided_by = wanted if elsewhere else "reference_date"
    kinds: dict[str, list[tuple[int, Any, str, Row]]] = defaultdict(list)
    there: dict[str, set[str]] = defaultdict(set)
    for row in [*present, *elsewhere]:
        info = listed.get(row["class_id"])
        course = courses.get(info["course_id"]) if info else None
        basis = reference_math_basis(info, course, policy) if info else None
        longest = -days_of(row["class_id"]) if decided_by == "majority" else first_day(row) or date.min
        of = {"any": 0}
        if info and basis:
            section = reference_section(info, course, policy)
            of["remedial" if section == "remedial" else "regular"] = int(basis == "title")
        if info and info["class_type"] == "homeroom":
            of["homeroom"] = 0
        for each, order in of.items():
            if row in (elsewhere or present):
                kinds[each].append((order, longest, row["class_id"], row))
            if row in present:
                there[each].add(row["class_id"])

    def best(kind: str) -> Row:
        return min(kinds[kind], key=lambda each: each[:3])[3]

    def class_grades(class_id: str) -> list[str]:
        return ((listed.get(class_id) or {}).get("grades") or "").split(";")

    kind = "any"
    if kinds["regular"]:
        kind = "regular"
    elif kinds["homeroom"] and any(
        g in policy.homeroom_grades for g in ([grade] if grade else class_grades(best("homeroom")["class_id"]))
    ):
        kind = "homeroom"
    elif kinds["remedial"]:
        kind = "remedial"
    row = best(kind)
    info = listed.get(row["class_id"])
    has_class = kind != "any"
    basis = {"homeroom": "homeroom", "any": "no_math_section"}.get(kind)
    school = (info or {}).get("school_id") or row["school_id"]
    only = class_grades(row["class_id"])

    began = [t["begin_on"] for t in terms_of(row["class_id"]) if t["begin_on"]]
    first = [r["begin_on"] for r in enrolled if r["class_id"] == row["class_id"] and r["begin_on"]]
    class_began = min(began, default=min(first, default=None))
    here = [
        first_day(r) for r in mine if ((listed.get(r["class_id"]) or {}).get("school_id") or r["school_id"]) == school
    ]
    mobile = False
    if has_class and class_began and all(here):
        arrived = min(d for d in here if d)
        rule = policy.classes
        mobile = (
            reference_school_days(class_began, arrived, policy) > rule.mobile_after_days
            and reference_school_days(arrived, day, policy) < rule.mobile_before_days
        )
    course = courses.get(info["course_id"]) if info else None
    return {
        "school_id": school,
        "grade": grade or (only[0] if len(only) == 1 and only[0] else None),
        "class_id": row["class_id"] if has_class else None,
        "class_basis": basis or reference_math_basis(info or {}, course, policy),
        "section_type": reference_section(info or {}, course, policy) if has_class else None,
        "in_two_classes": has_class and len(there[kind]) > 1,
        "membership_rule": decided_by,
        "is_mobile": mobile or (has_class and wanted == "census" and not elsewhere),
    }


def reference_need(test: Row, season: str, day: date, policy: DistrictPolicy) -> tuple[str | None, bool | None]:
    """Need level of a chosen test and whether the class rule counts it."""
    for rule in policy.all_cuts:
        if rule.measure not in (test["measure"], "*"):
            continue
        if rule.grades and test["grade"] not in rule.grades:
            continue
        if rule.seasons and season not in rule.seasons:
            continue
        if rule.valid_from > day:
            continue
        if rule.by == "placement":
            label = (test["placement"] or "").strip().lower()
            known = {
                name.lower(): level for level in ("none", "watch", "tier_2", "tier_3") for name in getattr(rule, level)
            }
            if label not in known:
                return None, None
            return known[label], label in {name.lower() for name in rule.class_need}
        value = test[rule.by]
        if value is None:
            return None, None
        for level, cut in (("tier_3", rule.tier_3_below), ("tier_2", rule.tier_2_below), ("watch", rule.watch_below)):
            if cut is not None and value < cut:
                return level, value < rule.class_need_below
        return "none", value < rule.class_need_below
    return None, None


def reference_joined(versions: list[Row], richness: Mapping[str, int]) -> list[list[Row]]:
    """Versions of one student's day by test, each from the one shown first; ``versions`` are of one test family."""
    layouts = sorted({v["layout"] for v in versions})
    if len(layouts) == 1:
        return [[v] for v in versions]
    parts = [part for part in ("test_name", "started_at") if all(v[part] is not None for v in versions)]
    blocks: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for version in versions:
        blocks[tuple(version[part] for part in parts)].append(version)
    tests = []
    for block in blocks.values():
        by_layout = {
            layout: sorted((v for v in block if v["layout"] == layout), key=lambda v: (v["score"], v["natural_key"]))
            for layout in layouts
        }
        anchor = min(by_layout, key=lambda name: (-len(by_layout[name]), -richness.get(name, 0), name))
        slots = [[v] for v in by_layout.pop(anchor)]
        scores = [slot[0]["score"] for slot in slots]
        for rows in by_layout.values():
            free = list(range(len(slots)))
            waiting = list(rows)
            if len(rows) < len(slots):
                for version in rows:
                    same = [n for n in free if scores[n] == version["score"]]
                    if same:
                        slots[same[0]].append(version)
                        free.remove(same[0])
                        waiting.remove(version)
            for place, version in zip(free, waiting, strict=False):
                slots[place].append(version)
        tests += slots

    def shown_first(version: Row) -> tuple[Any, ...]:
        latest = -version["export_at"].timestamp()
        return latest, -richness.get(version["layout"], 0), version["layout"], version["natural_key"]

    return [sorted(test, key=shown_first) for test in tests]
