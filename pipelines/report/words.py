"""Sentences and numbers as pages say them: plain words, and `not known` where nothing is known."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

NOT_KNOWN = "not known"


@dataclass(frozen=True)
class Rate:
    """A share with what it rests on. A share without its n is never shown."""

    count: int | None
    """How many; null where not known."""
    of: int | None
    share: float | None
    low: float | None = None
    """95 % interval; null where none is stated."""
    high: float | None = None

    @property
    def is_known(self) -> bool:
        return self.share is not None

    def __str__(self) -> str:
        if self.share is None:
            return NOT_KNOWN
        return f"{percent(self.share)} ({number(self.count)} of {number(self.of)})"

    @property
    def interval(self) -> str:
        """`14 to 53 %`, or nothing."""
        return "" if self.low is None or self.high is None else f"{100 * self.low:.0f} to {percent(self.high)}"


def percent(share: float | None) -> str:
    """Whole percents, because no class is large enough for more; never `0 %` or `100 %` of something that is not."""
    if share is None:
        return NOT_KNOWN
    shown = round(100 * share)
    if shown == 0 and share > 0:
        return "under 1 %"
    if shown == 100 and share < 1:
        return "over 99 %"
    return f"{shown} %"


def number(count: float | None) -> str:
    """A count with thin spaces kept out: `1,204`."""
    return NOT_KNOWN if count is None else f"{count:,.0f}"


def decimal(value: float | None, digits: int = 1) -> str:
    """A number with decimals."""
    return NOT_KNOWN if value is None else f"{value:,.{digits}f}"


def probability(p: float | None) -> str:
    """`0.98`, cut off and never `1.00` or `0.00`: nothing here is certain."""
    if p is None:
        return NOT_KNOWN
    return "over 0.99" if p > 0.99 else "under 0.01" if p < 0.01 else f"{math.floor(100 * p + 1e-9) / 100:.2f}"


def day(when: date | None) -> str:
    """`15 September 2026`."""
    return NOT_KNOWN if when is None else f"{when.day} {when:%B %Y}"


def yes_no(value: bool | None) -> str:
    """`yes`, `no` or `not known`."""
    return NOT_KNOWN if value is None else "yes" if value else "no"


def counted(count: int, one: str, many: str | None = None) -> str:
    """`1 class`, `3 classes`."""
    return f"{number(count)} {one if count == 1 else many or one + 's'}"


def listed(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


@dataclass(frozen=True)
class Level:
    """How a level of the answer is shown: never by colour alone."""

    code: str
    label: str
    mark: str
    """A sign that differs in shape."""
    tone: str
    """Name of a colour in the style sheet."""
    means: str
    """One sentence."""
    group: str
    """What the overview counts it under."""


LEVELS: Mapping[str, Level] = {
    each.code: each
    for each in (
        Level("NONE", "No need found", "○", "calm", "Nobody tested is in need by this measure.", "student"),
        Level("STUDENT", "Student", "●", "student", "Look at each student in need.", "student"),
        Level("WATCH", "Watch", "◐", "watch", "Perhaps more than single students: look again next window.", "student"),
        Level(
            "CLASSROOM",
            "Classroom",
            "▲",
            "classroom",
            "More of this class is in need than single students explain: look at whole-class instruction.",
            "classroom",
        ),
        Level(
            "CLASSROOM_OR_SYSTEM",
            "Classroom or system",
            "◭",
            "classroom",
            "The only class of its grade: class, grade and school cannot be told apart.",
            "classroom",
        ),
        Level(
            "SYSTEM+CLASSROOM",
            "System and classroom",
            "◆",
            "system",
            "The whole grade is high, and this class is above its grade.",
            "system",
        ),
        Level(
            "SYSTEM",
            "System",
            "■",
            "system",
            "The whole grade of the school is high: look across the grade before any one class.",
            "system",
        ),
        Level(
            "LOW_COVERAGE",
            "Not enough tested",
            "◇",
            "unknown",
            "Too few of the enrolled were tested to say.",
            "unknown",
        ),
        Level("TOO_SMALL", "Too small to say", "◇", "unknown", "Too few students for a rule about a class.", "unknown"),
        Level(
            "SYSTEM_DATA",
            "Data of the school",
            "□",
            "unknown",
            "Data of the grade or school are missing or failed a check: mend the data first.",
            "unknown",
        ),
    )
}
"""Every level, in the order of the guidance: student, classroom, system, not enough data."""

READINGS: Mapping[str, tuple[str, str, str]] = {
    "student": ("●", "Student", "Need is no more than single students explain."),
    "classroom": ("▲", "Classroom", "A class stands out, its grade as a whole does not."),
    "system": ("■", "System", "A whole grade of a school is high."),
    "unknown": ("◇", "Not enough data", "Too few tested, too small, or the data failed a check."),
}
"""The four answers of the guidance: mark, label, meaning."""

_STUDENT_STEPS = (
    "Plan support for each student in need: a small group with one specific goal, for three to six weeks.",
    "See whether each of them has an open intervention cycle, and what a team has decided.",
)
_CLASS_STEPS = (
    "Look at whole-class instruction before planning many single interventions.",
    "Ask which topics were taught by the test day, with which material, and whether it fits the grade's standards.",
    "Plan support for the whole class, and see at the next window whether the rate has moved.",
)
_GRADE_STEPS = (
    "Look across the whole grade before any one class: curriculum, time for mathematics, and support of the school.",
    "Ask whether support reaches the students it is planned for: unserved need, sessions held, families reached.",
)
_DATA_STEPS = (
    "See who was not tested and why, and test them.",
    "Until then plan for single students from what is known.",
)
GUIDANCE: Mapping[str, Sequence[str]] = {
    "NONE": ("Go on with the core, and look again at the next window.",),
    "STUDENT": _STUDENT_STEPS,
    "WATCH": (*_STUDENT_STEPS, "Look at the class again at the next window: one window does not say it is the class."),
    "CLASSROOM": _CLASS_STEPS,
    "CLASSROOM_OR_SYSTEM": (*_CLASS_STEPS, "It is the only class of its grade: look at the grade and school as well."),
    "SYSTEM": _GRADE_STEPS,
    "SYSTEM+CLASSROOM": (*_GRADE_STEPS, *_CLASS_STEPS[1:]),
    "LOW_COVERAGE": _DATA_STEPS,
    "TOO_SMALL": ("The class is too small for a rule about a class. It is small, not missing.", *_STUDENT_STEPS),
    "SYSTEM_DATA": ("Mend the data of the school first; the page on data quality says what failed.", *_DATA_STEPS),
}
"""What the guidance suggests at each level, in order."""

TERMS: Mapping[str, tuple[str, str]] = {
    "in-need": (
        "In need",
        "Below the class-need cut, by default the 20th national percentile, or at the vendor's lowest label.",
    ),
    "tested": ("Tested", "With a valid result of this measure in this window that the rule can judge."),
    "coverage": (
        "Coverage",
        "Tested of enrolled on the reference date. Under 80 % nothing is said about a class.",
    ),
    "interval": (
        "Interval",
        "The range in which the underlying rate lies with 95 % probability (Jeffreys). Small classes have wide ones.",
    ),
    "probability": (
        "Probability",
        "How probable it is that the underlying rate is above 20 %, after what the class shares with its grade,"
        " school and district is taken into account.",
    ),
    "level": ("Level", "Where the guidance says to look first: student, classroom, system, or not enough data."),
    "entering-need": (
        "Entering need",
        "What fall finds: who arrived in the class, not what this year's instruction did.",
    ),
    "expected": (
        "Expected",
        "How many would be in need if each student had gone as students with the same fall level in other classes of"
        " the district and grade.",
    ),
    "attention": (
        "Attention",
        "Look: one window finds something. Recommended action: only where it persists or is severe.",
    ),
    "persistent": ("Persistent", "Found in this window and in the one before."),
    "guidance-band": ("Guidance band", "The raw share against Colorado's 10 and 20 % of a class."),
    "unserved": ("Unserved need", "Students recommended Tier 2 or 3 without an open cycle in the window."),
    "delivery": ("Delivery", "Sessions held of those planned."),
    "tier": ("Tier", "Support recommended: 1 core instruction, 2 small group, 3 intensive."),
    "measure": ("Measure", "One screening test with a scale of its own."),
    "reference-date": ("Reference date", "The day of a window that decides who is in which class."),
    "mobile": ("Mobile", "Came to the school shortly before the reference date: helped, not counted."),
    "reliability": (
        "Reliability",
        "How much the class's own counts weigh in its estimate.",
    ),
    "topic": ("Topic", "A strand of the test, such as geometry. Named only where need in it stands out."),
    "subject-key": ("Student key", "A random key. Only the vault knows whose it is."),
}
"""Words that pages explain on demand: label and meaning. A page lists those it uses."""

MEASURES: Mapping[str, str] = {
    "map_growth_math": "MAP Growth",
    "star_math": "Star Math",
    "iready_math": "i-Ready",
    "fastbridge_amath": "FastBridge aMath",
    "fastbridge_cbmmath_cap": "FastBridge CBMmath CAP",
}


def measure_name(measure: str | None) -> str:
    """The test's own name where we know it, else the measure's name in words."""
    if measure is None:
        return NOT_KNOWN
    return MEASURES.get(measure, measure.replace("_", " "))


def year_name(school_year: str) -> str:
    """`2026` is the school year 2025-26."""
    return f"{int(school_year) - 1}-{school_year[-2:]}" if school_year.isdigit() else school_year


def grade_name(grade: str | None) -> str:
    """`Grade 4`, `Kindergarten`, `Grade not known`."""
    if grade is None:
        return "Grade not known"
    return "Kindergarten" if grade in ("K", "KG") else f"Grade {grade}"


def school_name(school_id: str | None) -> str:
    """The warehouse knows a school by its id."""
    return "School not known" if school_id is None else f"School {school_id}"
