"""The twenty questions of docs/questions.md on a warehouse of any size: each is to be answered in a tenth of a second.

The projections are drawn directly, district by district, with counts as a state has them; the real publish makes the
warehouse from them. The questions are asked of ``d001``, the largest district.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
from scipy import special

from schemas.answers import ANSWERS, Answer
from schemas.contract import Contract, columns, conform, table_name
from schemas.projections import (
    ClassDecision,
    ClassGrowth,
    ClassMembership,
    Cycle,
    CycleOutcome,
    IngestLedger,
    NeedLevel,
    Progress,
    QualityResult,
    RejectedRow,
    ResponderRate,
    SchoolSignal,
    ScreeningResult,
    TierPlacement,
    WindowRule,
)
from transforms.intervals import jeffreys
from warehouse.publish import connect, publish

MILLISECONDS = 100.0
REPEATS = 5
YEAR = "2026"
WINDOWS = {"fall": date(2025, 9, 16), "winter": date(2026, 1, 20), "spring": date(2026, 4, 29)}
MEASURES = ("map_growth_math", "star_math")
SCHOOL_STUDENTS, CLASS_STUDENTS, GRADES = 396, 22, 9
GROUP = 5
WITHOUT_CYCLES = 7
"""Every seventh district supplies no cycles."""
TAU = 0.2
Tables = dict[type[Contract], pl.DataFrame]


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--students", type=int, default=1_000_000)
    parser.add_argument("--districts", type=int, help="one per 6,500 students if absent")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    districts = arguments.districts or max(3, arguments.students // 6500)
    with tempfile.TemporaryDirectory(prefix="tierline-bench-") as folder:
        result = bench(Path(folder), arguments.students, districts)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"questions-{arguments.students}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {path}")


def bench(folder: Path, students: int, districts: int) -> dict[str, object]:
    """Make a warehouse in ``folder``, time every question and print the table."""
    begun = time.perf_counter()
    sources = write_projections(folder, students, districts)
    drawn = time.perf_counter()
    target = folder / "warehouse.duckdb"
    rows = publish(target, sources)
    published = time.perf_counter()
    print(
        f"{students:,} students in {districts} districts, drawn in {drawn - begun:.0f} s; {sum(rows.values()):,} rows"
        f" published in {published - drawn:.0f} s, {target.stat().st_size / 2**20:,.0f} MiB"
    )
    with connect(target) as connection:
        asked = [_asked(connection, number, each) for number, each in enumerate(ANSWERS, start=1)]
    table = pl.DataFrame(asked)
    with pl.Config(tbl_rows=-1, tbl_cols=-1, fmt_str_lengths=40, float_precision=1, tbl_hide_dataframe_shape=True):
        print(table)
    print(f"{table['is_met'].sum()} of {table.height} questions in {MILLISECONDS:g} ms")
    return {
        "students": students,
        "districts": districts,
        "rows": sum(rows.values()),
        "bytes": target.stat().st_size,
        "publish_seconds": published - drawn,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "duckdb": duckdb.__version__,
        "questions": asked,
    }


def _asked(connection: duckdb.DuckDBPyConnection, number: int, answer: Answer) -> dict[str, object]:
    """One question: the median of five times, after one that warms up.

    The processor's time is told beside it: on a machine that others use, the time by the clock is theirs as well.
    """
    rows = pl.DataFrame(connection.sql(answer.sql)).height
    seconds, worked = [], []
    for _ in range(REPEATS):
        begun, idle = time.perf_counter(), time.process_time()
        pl.DataFrame(connection.sql(answer.sql))
        seconds.append(time.perf_counter() - begun)
        worked.append(time.process_time() - idle)
    milliseconds = 1000 * statistics.median(seconds)
    return {
        "number": number,
        "answer": answer.name,
        "rows": rows,
        "milliseconds": milliseconds,
        "processor_milliseconds": 1000 * statistics.median(worked),
        "is_met": milliseconds <= MILLISECONDS,
    }


def write_projections(folder: Path, students: int, districts: int, seed: int = 1) -> dict[str, list[str]]:
    """Draw every district and write its tables as Parquet files, by partition; returns the files by table."""
    share = 1 / (np.arange(districts) + 9.0)
    sizes = np.maximum((students * share / share.sum()).astype(int), CLASS_STUDENTS)
    sizes[0] += max(students - sizes.sum(), 0)
    sources: dict[str, list[str]] = {}
    for number, size in enumerate(sizes, start=1):
        for contract, rows in draw(number, int(size), seed).items():
            path = folder / table_name(contract) / f"district_id=d{number:03d}"
            if "school_year" in columns(contract):
                path /= f"school_year={YEAR}"
            path.mkdir(parents=True)
            rows.drop("district_id", "school_year", strict=False).write_parquet(path / "part.parquet")
            sources.setdefault(table_name(contract), []).append(str(path / "part.parquet"))
    return sources


def draw(number: int, students: int, seed: int = 1) -> Tables:
    """The projections of one district: the same for the same number, size and seed."""
    rng = np.random.default_rng([seed, number])
    district = f"d{number:03d}"
    roster = pl.concat(_rosters(rng, students))
    tests = pl.concat(_tests(rng, roster, measure) for measure in MEASURES)
    placed = _placed(rng, roster, tests)
    cycles, outcomes = _cycles(rng, placed if number % WITHOUT_CYCLES else placed.clear())
    decisions = _decisions(rng, roster, tests)
    made: Tables = {
        WindowRule: pl.DataFrame(
            {"benchmark_window": list(WINDOWS), "reference_on": list(WINDOWS.values())}
        ).with_columns(reference_source=pl.lit("configured")),
        ScreeningResult: tests,
        ClassMembership: roster,
        NeedLevel: tests.filter("is_chosen"),
        TierPlacement: placed,
        Cycle: cycles,
        CycleOutcome: outcomes,
        Progress: outcomes.filter(pl.col("probes") > 0),
        ResponderRate: _rates(cycles, outcomes),
        ClassDecision: decisions,
        ClassGrowth: decisions.filter(pl.col("benchmark_window") != "fall"),
        SchoolSignal: _signals(roster, placed, has_cycles=bool(number % WITHOUT_CYCLES)),
        QualityResult: _quality(),
        IngestLedger: _files(rng, district),
        RejectedRow: _rejected(rng, district),
    }
    key = {"district_id": pl.lit(district), "school_year": pl.lit(YEAR), "input_id": pl.lit("drawn")}
    return {contract: conform(rows.with_columns(**key).lazy(), contract).collect() for contract, rows in made.items()}


def _keys(rng: np.random.Generator, rows: int, size: int) -> pl.Series:
    """Random keys of ``size`` hexadecimal digits."""
    return pl.Series(np.frombuffer(rng.bytes(rows * size // 2).hex().encode(), dtype=f"S{size}").astype(str))


def _rosters(rng: np.random.Generator, students: int) -> Iterator[pl.DataFrame]:
    """Class of every student by window: some change class or school, some leave, some have no math class."""
    number = np.arange(students)
    schools = max(students // SCHOOL_STUDENTS, 1)
    school, place = np.minimum(number // SCHOOL_STUDENTS, schools - 1), number % SCHOOL_STUDENTS
    people = pl.DataFrame(
        {
            "subject_key": _keys(rng, students, 32),
            "_school": school,
            "_class": place // CLASS_STUDENTS,
            "_theta": rng.normal(size=students),
            "is_alternate_assessment": rng.random(students) < 0.007,
            "is_mobile": rng.random(students) < 0.01,
        }
    )
    for turn, (window, reference) in enumerate(WINDOWS.items()):
        if turn:
            moves = rng.random(people.height)
            others = {
                "_class": rng.integers(0, SCHOOL_STUDENTS // CLASS_STUDENTS, people.height),
                "_school": rng.integers(0, schools, people.height),
            }
            people = people.with_columns(
                _class=pl.when(pl.Series(moves < 0.01)).then(pl.Series(others["_class"])).otherwise("_class"),
                _school=pl.when(pl.Series(moves > 0.997)).then(pl.Series(others["_school"])).otherwise("_school"),
            ).filter(pl.Series((moves < 0.99) | (moves > 0.995)))
        nowhere = rng.random(people.height) < 0.003
        yield people.select(
            "subject_key",
            "_theta",
            "is_alternate_assessment",
            "is_mobile",
            benchmark_window=pl.lit(window),
            reference_on=pl.lit(reference),
            school_id=pl.format("ORG{}", pl.col("_school").cast(pl.String).str.zfill(4)),
            grade=(pl.col("_class") % GRADES + 1).cast(pl.String),
            class_id=pl.when(~pl.Series(nowhere)).then(
                pl.format("C{}", (pl.col("_school") * 100 + pl.col("_class")).cast(pl.String).str.zfill(6))
            ),
            class_basis=pl.when(pl.Series(nowhere)).then(pl.lit("no_math_section")).otherwise(pl.lit("subject_code")),
            section_type=pl.lit("regular"),
            is_section_type_known=pl.lit(value=True),
            in_two_classes=pl.lit(value=False),
        )


def _tests(rng: np.random.Generator, roster: pl.DataFrame, measure: str) -> pl.DataFrame:
    """Tests of a measure: the first of nearly all, the second of two schools of five."""
    share = 0.96
    taken = roster.filter(
        pl.Series(rng.random(roster.height) < share),
        (pl.col("school_id").str.tail(1).cast(pl.Int32) % 5 < 2) | (measure == MEASURES[0]),
    )
    harder = (taken["class_id"].fill_null("C0").str.tail(2).str.to_integer(strict=False).fill_null(0) % 7 == 0) * 0.8
    latent = taken["_theta"].to_numpy() - harder.to_numpy() + rng.normal(scale=0.4, size=taken.height)
    percentile = np.clip(np.round(100 * special.ndtr(latent / 1.1)), 1, 99)
    invalid, again = rng.random(taken.height) < 0.01, rng.random(taken.height) < 0.02
    rated = pl.col("percentile")
    return taken.select(
        "subject_key",
        "benchmark_window",
        "school_id",
        "grade",
        "reference_on",
        "class_id",
        measure=pl.lit(measure),
        window_source=pl.lit("label"),
        natural_key=_keys(rng, taken.height, 64),
        occurred_on=pl.col("reference_on"),
        score=pl.Series(np.round(190 + 14 * latent, 1)),
        standard_error=pl.Series(np.round(rng.uniform(2.8, 3.6, taken.height), 1)),
        standard_error_unit=pl.lit("score"),
        percentile=pl.Series(percentile),
        is_valid=pl.Series(~invalid),
        is_chosen=pl.Series(~invalid & ~again),
        status=pl.lit("tested"),
        p_tier_2=pl.Series(special.ndtr((20 - percentile) / 8).round(6)),
        p_tier_3=pl.Series(special.ndtr((10 - percentile) / 8).round(6)),
        p_class_need=pl.Series(special.ndtr((20 - percentile) / 8).round(6)),
        probability_basis=pl.lit("sem"),
        layout=pl.lit("drawn"),
        rule=pl.lit(f"{measure} by percentile"),
    ).with_columns(
        need_level=pl.when(rated < 10)
        .then(pl.lit("tier_3"))
        .when(rated <= 20)
        .then(pl.lit("tier_2"))
        .when(rated <= 35)
        .then(pl.lit("watch"))
        .otherwise(pl.lit("none")),
        is_in_need=rated < 20,
    )


def _placed(rng: np.random.Generator, roster: pl.DataFrame, tests: pl.DataFrame) -> pl.DataFrame:
    """Tiers by the first measure; without a test that of the window before is carried forward."""
    said = tests.filter("is_chosen", measure=MEASURES[0]).select(
        "subject_key", "benchmark_window", "measure", "need_level", "p_tier_2", "p_tier_3", "status"
    )
    tier = pl.col("need_level").replace_strict({"tier_3": 3, "tier_2": 2, "watch": 1, "none": 1}, return_dtype=pl.Int8)
    return (
        roster.join(said, on=["subject_key", "benchmark_window"], how="left", maintain_order="left")
        .with_columns(_tested=tier, status=pl.col("status").fill_null("untested"))
        .with_columns(tier=pl.col("_tested").forward_fill().over("subject_key"))
        .with_columns(
            is_stale=pl.col("_tested").is_null() & pl.col("tier").is_not_null(),
            windows_without_test=pl.col("_tested").is_null().cast(pl.Int64),
            assigned_tier=pl.when(pl.Series(rng.random(roster.height) < 0.03)).then(pl.lit(2, pl.Int8)),
            reason=pl.lit("stay"),
        )
    )


def _cycles(rng: np.random.Generator, placed: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Groups of five of the students in need, in order of school and grade; about half of the groups have a cycle."""
    need = placed.filter(pl.col("tier") > 1).sort("benchmark_window", "school_id", "grade", "subject_key")
    group = np.arange(need.height) // GROUP
    groups = int(group[-1]) + 1 if need.height else 0
    day = timedelta(days=1)
    begins = rng.integers(-20, 60, groups)
    cycle = pl.DataFrame(
        {
            "_group": np.arange(groups),
            "_begins": begins,
            "state": rng.choice(["closed", "closed", "closed", "abandoned", "overdue", "open"], groups),
            "intervention": rng.choice(
                ["fact_fluency", "problem_types", "small_group_concepts", "number_lines"], groups
            ),
            "concept": rng.choice(["place_value", "multiplication_facts", "fraction_equivalence"], groups),
            "held_sessions": rng.binomial(12, 0.8, groups),
            "_kept": rng.random(groups) < 0.5,
        }
    ).filter("_kept")
    members = need.with_columns(_group=pl.Series(group)).join(cycle, on="_group", maintain_order="left")
    first = members.unique("_group", keep="first", maintain_order=True)
    ended = pl.col("state").is_in(["closed", "abandoned"])
    cycles = first.select(
        "_group",
        "school_id",
        "tier",
        "intervention",
        "concept",
        "state",
        "held_sessions",
        cycle_id=pl.format("cycle-{}", pl.col("_group").cast(pl.String).str.zfill(6)),
        group_id=pl.format("group-{}", pl.col("_group").cast(pl.String).str.zfill(6)),
        measure=pl.lit("fastbridge_cbmmath_auto_l1"),
        opened_on=pl.col("reference_on") + pl.col("_begins") * day,
        planned_end_on=pl.col("reference_on") + (pl.col("_begins") + 28) * day,
        closed_on=pl.when(ended).then(pl.col("reference_on") + (pl.col("_begins") + 28) * day),
        planned_sessions=pl.lit(12),
        delivery_share=pl.col("held_sessions") / 12,
        **dict.fromkeys(("adequate", "questionable", "poor", "concluded"), pl.lit(0)),
        excluded=pl.lit(GROUP),
    )
    size = members.height
    probes = np.minimum(rng.poisson(5.0, size), 12)
    dose = np.where(rng.random(size) < 0.1, np.nan, rng.uniform(0.3, 1.0, size).round(3))
    left = pl.Series(rng.random(size) < 0.05)
    outcomes = (
        members.select("_group", "subject_key")
        .join(
            cycles.select("_group", "cycle_id", "school_id", "measure", "opened_on", "held_sessions", "state"),
            on="_group",
            maintain_order="left",
        )
        .with_columns(
            joined_on=pl.col("opened_on"),
            left_on=pl.when(left).then(pl.col("opened_on") + 10 * day),
            planned_sessions=pl.lit(12),
            dose_share=pl.Series(dose).fill_nan(None),
            probes=pl.Series(probes),
            response=pl.Series(
                rng.choice(
                    ["adequate", "questionable", "poor", "dose_unknown", "insufficient_dose", "insufficient_data"], size
                )
            ),
            assumed_sessions=pl.lit(0),
            slope_status=pl.Series(
                np.array(["none", "descriptive", "provisional", "decision"])[np.digitize(probes, [2, 5, 8])]
            ),
        )
    )
    return cycles, outcomes


def _rates(cycles: pl.DataFrame, outcomes: pl.DataFrame) -> pl.DataFrame:
    """Rates by intervention and by concept."""
    named = outcomes.join(cycles.select("_group", "tier", "intervention", "concept"), on="_group")
    ended = pl.col("state").is_in(["closed", "abandoned"])
    count = {
        response: (ended & (pl.col("response") == response)).sum()
        for response in ("adequate", "questionable", "poor", "dose_unknown", "insufficient_dose", "insufficient_data")
    }
    rates = pl.concat(
        named.group_by("tier", kind=pl.lit(kind), name=kind)
        .agg(
            cycles=pl.col("_group").n_unique(),
            students=pl.col("subject_key").n_unique(),
            outcomes=pl.len(),
            open_outcomes=(pl.col("state") == "open").sum(),
            overdue_outcomes=(pl.col("state") == "overdue").sum(),
            ended=ended.sum(),
            **count,
        )
        .sort("name", "tier")
        for kind in ("intervention", "concept")
    ).with_columns(
        concluded=pl.sum_horizontal("adequate", "questionable", "poor"),
        abandoned_cycles=pl.lit(0),
        abandoned_outcomes=pl.lit(0),
        is_comparable=pl.lit(value=True),
    )
    low, high = jeffreys(rates["adequate"].to_numpy(), rates["concluded"].to_numpy())
    few = pl.col("concluded") < 10
    return rates.with_columns(
        responder_share=pl.col("adequate") / pl.col("concluded"),
        interval_low=pl.Series(low),
        interval_high=pl.Series(high),
        ended_share=pl.col("adequate") / pl.col("ended"),
        withheld_reason=pl.when(few).then(pl.lit("fewer_than_10_concluded")),
    )


def _decisions(rng: np.random.Generator, roster: pl.DataFrame, tests: pl.DataFrame) -> pl.DataFrame:
    """One row per class, measure and window, with growth beside it."""
    unit = ["benchmark_window", "class_id"]
    enrolled = (
        roster.drop_nulls("class_id").group_by(*unit, "school_id").agg(pl.col("grade").first(), enrolled=pl.len())
    )
    made = (
        tests.filter("is_chosen", pl.col("class_id").is_not_null())
        .group_by(*unit, "measure")
        .agg(tested=pl.len(), in_need=pl.col("is_in_need").sum())
        .join(enrolled, on=unit)
        .sort("measure", "class_id", "benchmark_window")
        .with_columns(
            grade_tested=pl.col("tested").sum().over("benchmark_window", "measure", "school_id", "grade"),
            grade_in_need=pl.col("in_need").sum().over("benchmark_window", "measure", "school_id", "grade"),
        )
    )
    tested, in_need = made["tested"].to_numpy(), made["in_need"].to_numpy()
    low, high = jeffreys(in_need, tested)
    p = special.betaincc(in_need + 2.0, tested - in_need + 8.0, TAU)
    p_grade = special.betaincc(
        made["grade_in_need"].to_numpy() + 1.0, (made["grade_tested"] - made["grade_in_need"]).to_numpy() + 4.0, TAU
    )
    flagged = (p >= 0.8) & (in_need > TAU * tested)
    growth = rng.choice(["more", "as_expected", "as_expected", "fewer"], made.height)
    level = np.select([flagged & (p_grade >= 0.9), flagged, in_need > 0], ["SYSTEM", "CLASSROOM", "STUDENT"], "NONE")
    reason = np.select(
        [flagged & (p_grade >= 0.9), flagged, in_need > 0],
        ["grade_above", "class_above", "not_above"],
        "nobody_in_need",
    )
    return made.with_columns(
        class_label=pl.format("Grade {}, class {}", "grade", "class_id"),
        section_type=pl.lit("regular"),
        mobile=pl.lit(0),
        coverage=pl.col("tested") / pl.col("enrolled"),
        recommended="in_need",
        need_share=pl.col("in_need") / pl.col("tested"),
        need_cut=pl.lit("PR<20"),
        recommended_cut=pl.lit("PR<=20"),
        interval_low=pl.Series(low),
        interval_high=pl.Series(high),
        is_evaluable=pl.lit(value=True),
        tau=pl.lit(TAU),
        p_above=pl.Series(p),
        p_grade_above=pl.Series(p_grade),
        grade_coverage=pl.lit(0.95),
        p_above_peers=pl.Series(p),
        is_flagged=pl.Series(flagged),
        level=pl.Series(level),
        reason=pl.Series(reason),
        severity=pl.Series(np.where(flagged, "suspect", "none")),
        attention=pl.Series(np.where(flagged, "look", "none")),
        is_district_wide=pl.lit(value=False),
        is_persistent=pl.Series(flagged & (rng.random(made.height) < 0.4)),
        with_fall="tested",
        matched="tested",
        observed="in_need",
        expected=pl.col("tested") * TAU,
        ratio=pl.col("in_need") / (pl.col("tested") * TAU),
        p_at_least=pl.Series(rng.random(made.height)),
        growth_excess=pl.Series(growth),
    )


def _signals(roster: pl.DataFrame, placed: pl.DataFrame, *, has_cycles: bool) -> pl.DataFrame:
    """Counts of each school and window; whether need is served is left to the mart."""
    return (
        placed.filter(~pl.col("is_alternate_assessment"))
        .group_by("benchmark_window", "school_id")
        .agg(
            enrolled=pl.len(),
            tested=(pl.col("status") == "tested").sum(),
            no_math_section=pl.col("class_id").is_null().sum(),
            recommended=(pl.col("tier") > 1).sum(),
        )
        .sort("benchmark_window", "school_id")
        .with_columns(
            coverage=pl.col("tested") / pl.col("enrolled"),
            served=pl.lit(0 if has_cycles else None, pl.Int64),
            is_system_data=pl.col("tested") / pl.col("enrolled") < 0.9,
        )
    )


def _quality() -> pl.DataFrame:
    rule = pl.format("rule_{}", pl.int_range(60)).alias("rule")
    return pl.select(rule).with_columns(
        stage=pl.lit("projections"),
        tool=pl.lit("pandera"),
        about=pl.lit("tier_placement"),
        is_blocking=pl.lit(value=False),
        is_passed=pl.lit(value=True),
        rows=pl.lit(0),
    )


def _files(rng: np.random.Generator, district: str, files: int = 40) -> pl.DataFrame:
    """Files of a district; one in eight was read twice because of parked rows, one in ten is held."""
    number = pl.int_range(files, eager=True)
    exported = datetime(2025, 9, 20, tzinfo=UTC)
    rows = pl.Series(rng.integers(500, 5000, files))
    held = number % 10 == 9
    first = (
        pl.DataFrame({"number": number, "data_rows": rows, "held": held})
        .with_columns(
            batch_id=pl.format(f"{district}-{{}}", "number"),
            attempt=pl.lit(1),
            file=pl.format("map_growth/file_{}.csv", "number"),
            layout=pl.when(~pl.col("held")).then(pl.lit("nwea_map_assessment_results")),
            status=pl.when("held").then(pl.lit("held")).otherwise(pl.lit("loaded")),
            held_rule=pl.when("held").then(pl.lit("renamed_column")),
            export_at=pl.lit(exported) + pl.col("number") * pl.duration(days=5),
            recorded_at=pl.lit(exported)
            + pl.col("number") * pl.duration(days=5)
            + pl.duration(days=pl.col("number") % 4),
            school_years=pl.lit(YEAR),
            rejected=pl.when(~pl.col("held")).then(pl.col("number") % 6),
            parked=pl.when(~pl.col("held")).then(pl.when(pl.col("number") % 8 == 0).then(7).otherwise(0)),
            **{name: pl.when(~pl.col("held")).then(0) for name in ("out_of_scope", "erased", "duplicate_in_file")},
            match_rate=pl.when(~pl.col("held")).then(1 - (pl.col("number") % 3) / 100),
            home_fingerprint=pl.lit("drawn"),
        )
        .with_columns(parsed=pl.col("data_rows") - pl.col("rejected") - pl.col("parked"))
    )
    again = first.filter(pl.col("parked") > 0).with_columns(
        attempt=pl.lit(2),
        recorded_at=pl.col("recorded_at") + pl.duration(days=3),
        data_rows=pl.col("parked"),
        parsed=pl.lit(5, first.schema["parsed"]),
        rejected=pl.lit(0, first.schema["rejected"]),
        parked=pl.lit(2, first.schema["parked"]),
    )
    return pl.concat([first, again], how="vertical_relaxed")


def _rejected(rng: np.random.Generator, district: str, files: int = 40) -> pl.DataFrame:
    """The rows the ledger says were rejected, each with one or two broken columns."""
    number = np.repeat(np.arange(files), np.arange(files) % 6)
    number = number[number % 10 != 9]
    lines = pl.DataFrame({"_number": number, "source_line": rng.permutation(number.size) + 2}).with_columns(
        batch_id=pl.format(f"{district}-{{}}", "_number"),
        attempt=pl.lit(1),
        column=pl.lit("TestRITScore"),
        rule=pl.lit("not_a_number"),
    )
    second = lines.filter(pl.col("source_line") % 2 == 0).with_columns(
        column=pl.lit("TestDate"), rule=pl.lit("not_a_date")
    )
    return pl.concat([lines, second])


if __name__ == "__main__":
    main()
