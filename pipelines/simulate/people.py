"""Schools, classes and students of one synthetic district, and the ability their scores are drawn from."""

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

WINDOWS = ("fall", "winter", "spring")
NEED_BELOW = -0.86
"""Ability at which the written percentile turns from 19 to 20, in national standard deviations."""

TYPICAL_MEAN, SCHOOL_SD, CLASS_SD, STUDENT_SD = 0.06, 0.08, 0.06, 0.92
MEASUREMENT_SD = 0.2

PLANTED_CLASS = {"entering": (-1.2, -1.2, -1.2), "during": (-0.1, -0.9, -1.3)}
PLANTED_GRADE = (-0.9, -1.0, -1.1)

REMEDIAL, REGULAR, ADVANCED, TINY = 0, 1, 2, 3
SECTIONS = ("remedial", "regular", "advanced", "regular")
TINY_SIZE, REMEDIAL_SIZE, ADVANCED_SIZE, LARGEST_CLASS = 7, 12, 22, 28

WORDS = ("Alder", "Birch", "Cedar", "Drift", "Elm", "Fern", "Granite", "Hazel", "Iris", "Juniper", "Linden", "Maple")


@dataclass(frozen=True)
class Calendar:
    """Days of one school year, by its ending year."""

    year: int

    @property
    def first(self) -> date:
        return date(self.year - 1, 8, 18)

    @property
    def last(self) -> date:
        return date(self.year, 6, 4)

    @property
    def title(self) -> str:
        return f"{self.year - 1}-{self.year}"

    @property
    def windows(self) -> tuple[tuple[date, date], ...]:
        """First and last day of each screening window."""
        return (
            (date(self.year - 1, 9, 8), date(self.year - 1, 10, 3)),
            (date(self.year, 1, 12), date(self.year, 2, 6)),
            (date(self.year, 4, 20), date(self.year, 5, 15)),
        )

    def weekdays(self, first: date, last: date) -> Ints:
        """Weekdays of a range, as days since 1970."""
        days = np.arange(days_of(first), days_of(last) + 1)
        return days[(days + 3) % 7 < 5]


def days_of(day: date) -> int:
    return (day - date(1970, 1, 1)).days


def day_of(days: int) -> date:
    return date(1970, 1, 1) + timedelta(days=int(days))


@dataclass(frozen=True)
class People:
    """One district. Schools, classes and students are named by their row number inside it."""

    district_id: str
    number: int
    calendar: Calendar
    schools: pl.DataFrame
    """name, state_number, level, covers_badly, delivers_badly."""
    classes: pl.DataFrame
    """school, grade, kind (homeroom, math, ela), section, number, scenario, onset, class_id, title, teachers."""
    students: pl.DataFrame
    """Ids and traits; first and second math class (-1: none), when they moved, began and ended (days since 1970)."""
    ability: Floats
    """True standing by window and student, in national standard deviations."""
    teachers: int

    @property
    def district_name(self) -> str:
        return f"District {self.number:03d}"

    def column(self, name: str) -> Ints:
        """A column of students."""
        return self.students[name].to_numpy()

    def class_on(self, days: Ints, who: Ints | None = None) -> Ints:
        """Math class on a day, for all students or for those named."""
        who = np.arange(self.students.height) if who is None else who
        first, second, moved = (self.column(name)[who] for name in ("class_1", "class_2", "moved"))
        return np.where((second >= 0) & (days >= moved), second, first)

    @property
    def covers_badly(self) -> NDArray[np.bool_]:
        """By school: hardly half of the students are tested in winter."""
        return self.schools["covers_badly"].to_numpy()

    def enrolled_on(self, days: Ints, who: Ints | None = None) -> NDArray[np.bool_]:
        who = np.arange(self.students.height) if who is None else who
        return (self.column("began")[who] <= days) & (days <= self.column("ended")[who])

    def truth(self) -> pl.DataFrame:
        """What was planted: one row per math class, with the share truly in need in each window."""
        classes = self.classes.select(pl.int_range(pl.len()).alias("class"), pl.all()).filter(pl.col("kind") != "ela")
        shares = []
        for window, (first, _) in enumerate(self.calendar.windows):
            day = np.full(self.students.height, days_of(first))
            here = pl.DataFrame(
                {"class": self.class_on(day), "need": self.ability[window] < NEED_BELOW, "in": self.enrolled_on(day)}
            )
            shares.append(
                here.filter("in")
                .group_by("class")
                .agg(
                    pl.col("need").mean().alias(f"need_{WINDOWS[window]}"),
                    pl.len().alias(f"students_{WINDOWS[window]}"),
                )
            )
        for share in shares:
            classes = classes.join(share, on="class", how="left", maintain_order="left")
        return classes.select(
            district_id=pl.lit(self.district_id),
            school_id=self.schools["school_id"].gather(classes["school"]),
            grade=grade_text(pl.col("grade")),
            class_id="class_id",
            section="section",
            scenario="scenario",
            onset="onset",
            true_need_share="need_spring",
            **{f"{what}_{window}": f"{what}_{window}" for what in ("need", "students") for window in WINDOWS},
        )


def grade_text(grade: pl.Expr) -> pl.Expr:
    """K, 1 to 8."""
    return pl.when(grade == 0).then(pl.lit("K")).otherwise(grade.cast(pl.String))


def settle(district_id: str, number: int, students: int, schools: int | None, year: int, seed: int) -> People:
    """Draw a district: schools of about 375, two thirds of the students in K-5, scenarios planted."""
    rng = np.random.default_rng([seed, number, 1])
    calendar = Calendar(year)
    building = _schools(rng, students, schools)
    cell_school, cell_grade, cell_size = _cells(rng, building, students)
    plan = _plant(rng, building, cell_school, cell_grade, cell_size)

    cell = np.repeat(np.arange(len(cell_size)), cell_size)
    own = rng.normal(0, STUDENT_SD, students)
    kind = _section(own, cell, building, cell_school, cell_grade, cell_size, plan["tiny_cells"], rng)
    cell_kind = cell * 4 + kind
    groups, group, size = np.unique(cell_kind, return_inverse=True, return_counts=True)
    sections = np.where(groups % 4 == REGULAR, -(-size // LARGEST_CLASS), 1)
    start = np.concatenate([[0], np.cumsum(sections)[:-1]])
    rank = _rank_within(group, rng.random(students))
    class_1 = start[group] + rank * sections[group] // size[group]

    class_group = np.repeat(np.arange(len(groups)), sections)
    class_cell = groups[class_group] // 4
    classes = pl.DataFrame(
        {
            "cell": class_cell,
            "school": cell_school[class_cell],
            "grade": cell_grade[class_cell],
            "kind": np.where(building["middle"].to_numpy()[cell_school[class_cell]], "math", "homeroom"),
            "section_kind": groups[class_group] % 4,
            "number": _rank_within(class_cell, np.arange(len(class_cell))) + 1,
        }
    ).with_columns(section=pl.Series(SECTIONS).gather(groups[class_group] % 4))
    classes, shift = _scenarios(rng, classes, building, plan)
    math = classes.height
    classes, ela_start, ela_sections = _ela(classes, len(cell_size))

    school_effect = rng.normal(0, SCHOOL_SD, building.height)
    class_effect = rng.normal(0, CLASS_SD, math)
    drift = rng.normal(0, 0.15, (3, students))
    level = TYPICAL_MEAN + school_effect[cell_school[cell]] + class_effect[class_1] + own
    moves = _moves(rng, calendar, classes.head(math), class_1, cell_grade[cell])
    teacher, coteacher, teachers = _teachers(rng, classes)
    classes = classes.with_columns(
        class_id=pl.format("C{}", pl.int_range(pl.len()).add(101).cast(pl.String).str.zfill(6)),
        title=_title(),
        teacher=teacher,
        coteacher=coteacher,
    ).drop("cell", "section_kind")

    ela = np.where(
        ela_sections[cell] > 0,
        ela_start[cell] + _rank_within(cell, rng.random(students)) % np.maximum(ela_sections[cell], 1),
        -1,
    )
    second_cell = np.where(moves["class_2"] >= 0, class_cell[moves["class_2"]], -1)
    ela_2 = np.where(
        (second_cell >= 0) & (second_cell != cell) & (ela_sections[second_cell] > 0),
        ela_start[second_cell] + np.arange(students) % np.maximum(ela_sections[second_cell], 1),
        -1,
    )
    return People(
        district_id=district_id,
        number=number,
        calendar=calendar,
        schools=building.with_columns(
            covers_badly=pl.int_range(pl.len()).is_in(plan["coverage_schools"]),
            delivers_badly=pl.int_range(pl.len()).is_in(plan["delivery_schools"]),
        ),
        classes=classes,
        students=_traits(rng, number, students, calendar, cell_grade[cell]).with_columns(
            class_1=class_1, ela_1=ela, ela_2=ela_2, **{name: pl.Series(value) for name, value in moves.items()}
        ),
        ability=level + drift + shift[class_1].T,
        teachers=teachers,
    )


def _schools(rng: np.random.Generator, students: int, schools: int | None) -> pl.DataFrame:
    count = max(1, round(students / 375)) if schools is None else schools
    middle = np.zeros(count, dtype=bool)
    if count > 1:
        middle[-max(1, round(count / 4)) :] = True
    row = pl.int_range(pl.len())
    return pl.DataFrame({"middle": middle, "weight": rng.uniform(0.9, 1.1, count)}).select(
        "middle",
        "weight",
        school_id=pl.format("ORG{}", row.add(1).cast(pl.String).str.zfill(4)),
        state_number=row.mul(4).add(110).cast(pl.String).str.zfill(4),
        name=pl.Series([f"{WORDS[n % len(WORDS)]} School {n + 1:02d}" for n in range(count)]),
    )


def _cells(rng: np.random.Generator, schools: pl.DataFrame, students: int) -> tuple[Ints, Ints, Ints]:
    """School, grade and size of each school-grade; sizes add up to the students."""
    school: list[int] = []
    grade: list[int] = []
    for row, middle in enumerate(schools["middle"]):
        grades = range(6, 9) if middle else range(6)
        school += [row] * len(grades)
        grade += grades
    school_of, grade_of = np.array(school), np.array(grade)
    middle_of = schools["middle"].to_numpy()[school_of]
    weight = schools["weight"].to_numpy()[school_of] * rng.uniform(0.95, 1.05, len(school_of))
    share = weight / weight[middle_of].sum() / 3 if middle_of.any() else weight / weight.sum()
    share = np.where(middle_of, share, weight / weight[~middle_of].sum() * (2 / 3 if middle_of.any() else 1))
    exact = share * students
    size = np.floor(exact).astype(np.int64)
    size[np.argsort(size - exact, kind="stable")[: students - size.sum()]] += 1
    return school_of, grade_of, size


def _plant(
    rng: np.random.Generator, schools: pl.DataFrame, cell_school: Ints, cell_grade: Ints, cell_size: Ints
) -> dict[str, Ints]:
    """Which schools and school-grades get a scenario; different schools as long as there are enough."""
    order = rng.permutation(np.flatnonzero(~schools["middle"].to_numpy()))
    some = max(1, len(order) // 10)
    parts = {"system": some if len(order) >= 3 else 0, "coverage": some if len(order) >= 4 else 0}
    system, coverage, rest = np.split(order, np.cumsum(list(parts.values())))
    tiny_schools = rest[:some] if len(rest) else order[:some]
    pick: dict[str, list[int]] = {"system": [], "tiny": []}
    for name, chosen in (("system", system), ("tiny", tiny_schools)):
        for school in chosen:
            cells = np.flatnonzero((cell_school == school) & (cell_size > 2 * TINY_SIZE))
            if len(cells):
                pick[name].append(int(cells[np.argmax(cell_size[cells] - cell_grade[cells])]))
    return {
        "system_cells": np.array(pick["system"], dtype=np.int64),
        "tiny_cells": np.array(pick["tiny"], dtype=np.int64),
        "coverage_schools": coverage,
        "free_schools": rest,
        "delivery_schools": rest[-max(1, min(2, len(rest) - 1), some) :],
    }


def _rank_within(group: Ints, key: NDArray[np.generic]) -> Ints:
    """Rank of each row inside its group by key, from 0."""
    order = np.lexsort((key, group))
    sorted_group = group[order]
    first = np.flatnonzero(np.concatenate([[True], sorted_group[1:] != sorted_group[:-1]]))
    rank = np.empty(len(group), dtype=np.int64)
    rank[order] = np.arange(len(group)) - np.repeat(first, np.diff(np.concatenate([first, [len(group)]])))
    return rank


def _section(
    own: Floats,
    cell: Ints,
    schools: pl.DataFrame,
    cell_school: Ints,
    cell_grade: Ints,
    cell_size: Ints,
    tiny_cells: Ints,
    rng: np.random.Generator,
) -> Ints:
    """Middle schools take out their weakest dozen, and the strongest of grade 8; a tiny class takes seven at random."""
    middle = schools["middle"].to_numpy()[cell_school][cell] & (cell_size[cell] >= 80)
    rank = _rank_within(cell, own)
    section = np.full(len(cell), REGULAR)
    section[middle & (rank < REMEDIAL_SIZE)] = REMEDIAL
    section[middle & (cell_grade[cell] == 8) & (rank >= cell_size[cell] - ADVANCED_SIZE)] = ADVANCED
    tiny = np.isin(cell, tiny_cells) & (_rank_within(cell, rng.random(len(cell))) < TINY_SIZE)
    section[tiny] = TINY
    return section


def _scenarios(
    rng: np.random.Generator, classes: pl.DataFrame, schools: pl.DataFrame, plan: dict[str, Ints]
) -> tuple[pl.DataFrame, Floats]:
    """The planted scenario of each math class and its shift of ability by window."""
    count = classes.height
    school, cell, kind = (classes[name].to_numpy() for name in ("school", "cell", "section_kind"))
    scenario = np.full(count, "typical", dtype=object)
    onset = np.full(count, None, dtype=object)
    shift = np.zeros((count, 3))

    scenario[np.isin(school, plan["coverage_schools"])] = "low_coverage"
    in_system = np.isin(cell, plan["system_cells"]) & (kind == REGULAR)
    scenario[in_system], onset[in_system], shift[in_system] = "school_problem", "entering", PLANTED_GRADE
    scenario[kind == TINY] = "tiny"

    peers = np.bincount(cell)[cell]
    free = np.flatnonzero(np.isin(school, plan["free_schools"]) & (scenario == "typical") & (kind == REGULAR))
    if len(free) == 0:
        free = np.flatnonzero((scenario == "typical") & (kind == REGULAR))
    free = rng.permutation(free)
    free = free[np.argsort(peers[free] == 1, kind="stable")]
    _, apart = np.unique(cell[free], return_index=True)
    free = free[np.sort(apart)][: max(2, count // 60)]
    for place, (name, by_window) in enumerate(PLANTED_CLASS.items()):
        hit = free[place::2]
        scenario[hit], onset[hit], shift[hit] = "class_problem", name, by_window
    return classes.with_columns(
        scenario=pl.Series(scenario.tolist(), dtype=pl.String), onset=pl.Series(onset.tolist(), dtype=pl.String)
    ), shift


def _ela(classes: pl.DataFrame, cells: int) -> tuple[pl.DataFrame, Ints, Ints]:
    """Adds as many English sections as a middle-school grade has regular math sections: they must not count."""
    regular = classes.filter((pl.col("kind") == "math") & (pl.col("section_kind") == REGULAR))
    english = regular.with_columns(
        kind=pl.lit("ela"), scenario=pl.lit(None, dtype=pl.String), onset=pl.lit(None, dtype=pl.String)
    ).with_columns(number=pl.int_range(pl.len()).over("cell") + 1)
    sections = np.bincount(english["cell"].to_numpy(), minlength=cells) if english.height else np.zeros(cells, np.int64)
    start = classes.height + np.concatenate([[0], np.cumsum(sections)[:-1]])
    return pl.concat([classes, english]), start, sections


def _teachers(rng: np.random.Generator, classes: pl.DataFrame) -> tuple[Ints, Ints, int]:
    """A teacher per homeroom, one per three sections in middle school; every twelfth class is co-taught."""
    homeroom = (classes["kind"] == "homeroom").to_numpy()
    post = np.where(
        homeroom,
        np.arange(classes.height),
        classes.height
        + classes["cell"].to_numpy() * 100
        + (classes["kind"] == "ela").to_numpy() * 50
        + (classes["number"].to_numpy() - 1) // 3,
    )
    names, teacher = np.unique(post, return_inverse=True)
    shared = rng.random(classes.height) < 1 / 12
    coteacher = np.where(shared, len(names) + np.cumsum(shared) - 1, -1)
    return teacher, coteacher, len(names) + int(shared.sum())


def _title() -> pl.Expr:
    grade = grade_text(pl.col("grade"))
    subject = (
        pl.when(pl.col("kind") == "ela")
        .then(pl.format("English Language Arts {}", grade))
        .when(pl.col("section") == "remedial")
        .then(pl.format("Math {} Intervention", grade))
        .when(pl.col("section") == "advanced")
        .then(pl.format("Accelerated Math {}", grade))
        .otherwise(pl.format("Math {}", grade))
    )
    return (
        pl.when(pl.col("kind") == "homeroom")
        .then(pl.format("Homeroom {}-{}", grade, "number"))
        .otherwise(pl.format("{} - Section {}", subject, "number"))
    )


def _moves(
    rng: np.random.Generator, calendar: Calendar, classes: pl.DataFrame, class_1: Ints, grade: Ints
) -> dict[str, Ints]:
    """About 3 % arrive late, 2 % leave early, 3 % change class, most of these to another school."""
    students = len(class_1)
    fate = rng.random(students)
    autumn, spring = days_of(date(calendar.year - 1, 10, 1)), days_of(date(calendar.year, 4, 10))
    day = rng.integers(autumn, spring, students)
    day -= np.maximum((day + 3) % 7 - 4, 0)
    regular = classes.with_row_index().filter(pl.col("section_kind") == REGULAR).sort("grade", "index")
    start = np.searchsorted(regular["grade"].to_numpy(), np.arange(10))
    choices = np.maximum(np.diff(start, append=regular.height), 1)
    pick = start[grade] + rng.integers(0, 1 << 30, students) % choices[grade]
    new = regular["index"].to_numpy()[np.minimum(pick, regular.height - 1)].astype(np.int64)
    goes = (fate >= 0.05) & (fate < 0.08) & (new != class_1)
    return {
        "began": np.where(fate < 0.03, day, days_of(calendar.first)),
        "ended": np.where((fate >= 0.03) & (fate < 0.05), day, days_of(calendar.last)),
        "moved": np.where(goes, day, days_of(calendar.last) + 1),
        "class_2": np.where(goes, new, -1),
    }


def _traits(rng: np.random.Generator, number: int, students: int, calendar: Calendar, grade: Ints) -> pl.DataFrame:
    """Ids and group values. Local ids have leading zeros; state ids are unique over districts."""
    row = np.arange(students)
    width = max(6, len(str(students)) + 1)
    local = rng.permutation(students) + 1201
    state = 1_000_000_000 + (number * 10_000_000 + row) * 7_368_787 % 8_999_999_929
    races = ("White", "Hispanic or Latino", "Black or African American", "Asian", "Two or More Races")
    race = np.searchsorted([0.48, 0.80, 0.90, 0.95], rng.random(students))
    birth = days_of(date(calendar.year - 6, 9, 30)) - grade * 365 - rng.integers(0, 365, students)
    return pl.DataFrame(
        {
            "grade": grade,
            "local_id": pl.Series(local).cast(pl.String).str.zfill(width),
            "state_id": pl.Series(state).cast(pl.String),
            "first_name": pl.select(pl.format("First {}", pl.Series(row + 1))).to_series(),
            "last_name": pl.select(pl.format("Last {}", pl.Series(row + 1))).to_series(),
            "sex": pl.Series(["female", "male"]).gather(rng.integers(0, 2, students)),
            "race": pl.Series(races).gather(race),
            "born": pl.Series(birth).cast(pl.Int32).cast(pl.Date),
            "english_learner": rng.random(students) < 0.13,
            "special_education": rng.random(students) < 0.13,
            "low_income": rng.random(students) < 0.42,
        }
    )
