"""The twenty questions: each is asked as docs/questions.md writes it, and its answer is counted again."""

import re
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from benchmarks.questions import write_projections
from schemas.answers import ANSWERS, HELPERS, SCALARS, Question
from schemas.contract import columns, descriptions, summary, table_name
from schemas.dictionary import dictionary
from schemas.questions_page import PATH, questions_page
from tests.conftest import Lived
from transforms.intervals import wilson
from warehouse.publish import connect, publish
from warehouse.shape import EDUCATION_RECORD, answer_sql, duckdb_type

PAGE = PATH.read_text("utf-8")
ASKED = re.findall(r"^## \d+\. (.*?)\n.*?^```sql\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
TURNS = [("fall", "winter"), ("winter", "spring")]
KEYS = {"school_id", "benchmark_window", "kind", "from_window", "file"}
"""What an answer may begin with where it is ordered by all: places and times, never a result."""
FORBIDDEN = ("ineffective", "failing teacher", "caused by", "worst")
DISTRICT, OTHER, WITHOUT_CYCLES = "d001", "d002", "d007"


class Drawn:
    """A small published warehouse and the projections it was made from."""

    def __init__(self, folder: Path) -> None:
        sources = write_projections(folder, students=4000, districts=7)
        self.path = folder / "warehouse.duckdb"
        publish(self.path, sources)
        self.tables = {
            name: pl.concat(pl.read_parquet(file, hive_partitioning=True, hive_schema={
                "district_id": pl.String, "school_year": pl.String
            } if "school_year=" in file else {"district_id": pl.String}) for file in files)
            for name, files in sources.items()
        }  # fmt: skip

    def of(self, name: str, district: str = DISTRICT, **only: str) -> pl.DataFrame:
        return self.tables[name].filter(pl.col("district_id") == district).filter(**only)

    def ask(self, sql: str) -> pl.DataFrame:
        with connect(self.path) as connection:
            return pl.DataFrame(connection.sql(sql))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    return Drawn(tmp_path_factory.mktemp("drawn"))


def with_wilson(rows: pl.DataFrame, y: str, n: str, name: str, share: str | None = None) -> pl.DataFrame:
    """Share of the counts and its interval, as the transforms have it."""
    given = [rows[each].cast(pl.Float64).to_numpy() for each in (y, n)]
    low, high = (pl.Series(each).fill_nan(None) for each in wilson(*given))
    return rows.with_columns(
        (pl.col(y) / pl.col(n)).fill_nan(None).alias(share or f"{name}_share"),
        low.alias(f"{name}_low"),
        high.alias(f"{name}_high"),
    )


def in_force(drawn: Drawn, day: date) -> dict[str, object]:
    (row,) = drawn.of("window_rule").filter(pl.col("reference_on") <= day).sort("reference_on")[-1:].to_dicts()
    return {"benchmark_window": row["benchmark_window"]}


DAY = date(2026, 2, 1)


def flagged_classes(drawn: Drawn) -> pl.DataFrame:
    return (
        drawn.of("class_decision", **in_force(drawn, DAY))
        .filter("is_flagged")
        .with_columns(reference_on=pl.lit(date(2026, 1, 20)))
    )


def tier_counts(drawn: Drawn) -> pl.DataFrame:
    tier = pl.col("tier")
    counted = (
        drawn.of("tier_placement", **in_force(drawn, DAY))
        .group_by("school_id", "grade")
        .agg(
            students=pl.len(),
            placed=tier.count(),
            untested=(pl.col("status") != "tested").sum(),
            **{f"tier_{each}": (tier == each).sum() for each in (1, 2, 3)},
            both=(tier >= 2).sum(),
        )
    )
    return with_wilson(counted, "both", "placed", "recommended")


def needs(drawn: Drawn, district: str = DISTRICT) -> pl.DataFrame:
    """Students in tier 2 or 3 and whether a cycle served them, cycle by cycle and window by window."""
    starts = dict(drawn.of("window_rule", district).select("benchmark_window", "reference_on").rows())
    ends = {before: starts[after] - timedelta(days=1) for before, after in TURNS} | {"spring": date.max}
    starts["fall"] = date.min
    cycles = {row["cycle_id"]: row for row in drawn.of("cycle", district).to_dicts()}
    served = set()
    for member in drawn.of("cycle_outcome", district).to_dicts():
        cycle = cycles[member["cycle_id"]]
        for window in starts:
            begins = max(cycle["opened_on"], member["joined_on"])
            stops = min(cycle["closed_on"] or date.max, member["left_on"] or date.max)
            if begins <= ends[window] and stops >= starts[window]:
                served.add((window, member["subject_key"]))
    alternate = (
        drawn.of("class_membership", district)
        .filter("is_alternate_assessment")
        .select("benchmark_window", "subject_key")
    )
    text = dict.fromkeys(("benchmark_window", "subject_key"), pl.String)
    pairs = pl.DataFrame(list(served), schema=text, orient="row")
    return (
        drawn.of("tier_placement", district)
        .filter(pl.col("tier") >= 2)
        .join(alternate, on=["benchmark_window", "subject_key"], how="anti")
        .join(pairs.with_columns(is_served=True), on=["benchmark_window", "subject_key"], how="left")
        .with_columns(pl.col("is_served").fill_null(False))
    )


def students_without_cycle(drawn: Drawn) -> pl.DataFrame:
    return needs(drawn).filter(~pl.col("is_served"), benchmark_window="winter")


def unserved_needs(drawn: Drawn) -> pl.DataFrame:
    served = pl.col("is_served")
    counted = (
        needs(drawn)
        .filter(benchmark_window="winter")
        .group_by("school_id", "grade")
        .agg(recommended=pl.len(), served=served.sum(), unserved=(~served).sum())
    )
    return with_wilson(counted, "unserved", "recommended", "unserved")


def response_rates(drawn: Drawn) -> pl.DataFrame:
    """From the outcomes, without the rates' own projection."""
    cycles = drawn.of("cycle").select("cycle_id", "tier", "intervention", "concept")
    named = drawn.of("cycle_outcome").join(
        cycles.join(drawn.of("cycle").select("cycle_id", "state"), on="cycle_id"), on="cycle_id"
    )
    ended, response = pl.col("state").is_in(["closed", "abandoned"]), pl.col("response")
    counted = pl.concat(
        named.group_by("tier", kind=pl.lit(kind), name=kind).agg(
            cycles=pl.col("cycle_id").n_unique(),
            students=pl.col("subject_key").n_unique(),
            outcomes=pl.len(),
            concluded=(ended & response.is_in(["adequate", "questionable", "poor"])).sum(),
            adequate=(ended & (response == "adequate")).sum(),
        )
        for kind in ("intervention", "concept")
    ).join(
        drawn.of("responder_rate").select("kind", "name", "tier", "interval_low", "interval_high"),
        on=["kind", "name", "tier"],
    )
    few = pl.col("concluded") < 10
    shown = {name: pl.when(~few).then(name) for name in ("interval_low", "interval_high")}
    return counted.with_columns(
        responder_share=pl.when(~few).then(pl.col("adequate") / pl.col("concluded")),
        withheld_reason=pl.when(few).then(pl.lit("fewer_than_10_concluded")),
        **shown,
    )


def tier_changes(drawn: Drawn) -> pl.DataFrame:
    placed = drawn.of("tier_placement")
    parts = []
    for before, after in TURNS:
        one, two = (placed.filter(benchmark_window=each).select("subject_key", "tier") for each in (before, after))
        pairs = one.join(two, on="subject_key", suffix="_after")
        counted = pairs.group_by(from_tier="tier", to_tier="tier_after").agg(students=pl.len())
        total = pl.col("students").sum().over("from_tier").alias("from_students")
        parts.append(counted.with_columns(total, from_window=pl.lit(before), to_window=pl.lit(after)))
    return with_wilson(pl.concat(parts), "students", "from_students", "share", "share")


def coverages(drawn: Drawn) -> pl.DataFrame:
    counted = (
        drawn.of("tier_placement")
        .join(drawn.of("class_membership"), on=["benchmark_window", "subject_key"])
        .filter(~pl.col("is_alternate_assessment"))
        .group_by("benchmark_window", "school_id")
        .agg(enrolled=pl.len(), tested=(pl.col("status") == "tested").sum())
        .with_columns(is_system_data=pl.col("tested") / pl.col("enrolled") < 0.9)
    )
    return with_wilson(counted, "tested", "enrolled", "coverage", "coverage")


def overdue_cycles(drawn: Drawn) -> pl.DataFrame:
    return drawn.of("cycle", state="overdue")


def deliveries(drawn: Drawn) -> pl.DataFrame:
    cycles, outcomes = drawn.of("cycle"), drawn.of("cycle_outcome")
    unit = ["school_id", "intervention"]
    held = cycles.group_by(unit).agg(pl.len().alias("cycles"), pl.col("planned_sessions", "held_sessions").sum())
    dose = (
        outcomes.join(cycles.select("cycle_id", "intervention"), on="cycle_id")
        .group_by(unit)
        .agg(outcomes=pl.len(), dose_known=pl.col("dose_share").count(), dose_share=pl.col("dose_share").mean())
    )
    return held.join(dose, on=unit).with_columns(delivery_share=pl.col("held_sessions") / pl.col("planned_sessions"))


def measure_disagreements(drawn: Drawn) -> pl.DataFrame:
    said = drawn.of("need_level", benchmark_window="winter")
    one, two = (
        said.filter(measure=each).select("subject_key", "measure", "need_level", "p_tier_2")
        for each in ("map_growth_math", "star_math")
    )
    low = [pl.col(each).str.starts_with("tier") for each in ("need_level", "need_level_other")]
    place = drawn.of("tier_placement", benchmark_window="winter").select("subject_key", "school_id", "grade", "tier")
    return (
        one.join(two, on="subject_key", suffix="_other")
        .filter(low[0] != low[1])
        .join(place, on="subject_key")
        .rename({f"{each}_other": f"other_{each}" for each in ("measure", "need_level", "p_tier_2")})
    )


def file_outcomes(drawn: Drawn) -> pl.DataFrame:
    files = []
    for _, read in drawn.of("ingest_ledger").sort("attempt").group_by("batch_id", maintain_order=True):
        first, last = read.row(0, named=True), read.row(-1, named=True)
        counts = {
            name: read[name].sum() if read[name].count() else None for name in ("parsed", "rejected", "out_of_scope")
        }
        days = (first["recorded_at"] - first["export_at"]).days if first["status"] == "loaded" else None
        share = None if counts["rejected"] is None else counts["rejected"] / first["data_rows"]
        same = {name: last[name] for name in ("file", "layout", "status", "parked", "match_rate")}
        files.append({**same, **counts, "days_to_load": days, "data_rows": first["data_rows"], "rejected_share": share})
    return pl.DataFrame(files)


def rejections(drawn: Drawn) -> pl.DataFrame:
    names = drawn.of("ingest_ledger").filter(attempt=1).select("batch_id", "file", "layout")
    return (
        drawn.of("rejected_row")
        .group_by("batch_id", "column", "rule")
        .agg(rows=pl.col("source_line").n_unique(), first_line=pl.col("source_line").min())
        .join(names, on="batch_id")
    )


def entering_needs(drawn: Drawn) -> pl.DataFrame:
    growth = drawn.of("class_growth").select(
        "benchmark_window", "measure", "class_id", "matched", "observed", "expected", "p_at_least", "growth_excess"
    )
    flagged = drawn.of("class_decision").filter("is_flagged")
    return flagged.join(growth, on=["benchmark_window", "measure", "class_id"]).filter(
        pl.col("growth_excess") != "more"
    )


def persistent_flags(drawn: Drawn) -> pl.DataFrame:
    return drawn.of("class_decision").filter("is_flagged", "is_persistent")


def class_changes(drawn: Drawn) -> pl.DataFrame:
    """Student by student."""
    counts: dict[tuple[str, str, str], dict[str, int]] = {}
    member = {(row["benchmark_window"], row["subject_key"]): row for row in drawn.of("class_membership").to_dicts()}
    for before, after in TURNS:
        for (window, student), row in member.items():
            if window != before or row["class_id"] is None:
                continue
            later = member.get((after, student))
            if later is None:
                state = "left_roster"
            elif later["class_id"] == row["class_id"]:
                state = "same_class"
            elif later["school_id"] != row["school_id"]:
                state = "other_school"
            else:
                state = "no_class" if later["class_id"] is None else "other_class"
            of_school = counts.setdefault((before, after, row["school_id"]), dict.fromkeys(
                ("students", "same_class", "other_class", "other_school", "no_class", "left_roster"), 0
            ))  # fmt: skip
            of_school[state] += 1
            of_school["students"] += 1
    rows = [dict(zip(("from_window", "to_window", "school_id"), key, strict=True)) | row for key, row in counts.items()]
    frame = pl.DataFrame(rows).with_columns(moved=pl.col("students") - pl.col("same_class"))
    return with_wilson(frame, "moved", "students", "moved")


def system_grades(drawn: Drawn) -> pl.DataFrame:
    unit = ["benchmark_window", "measure", "school_id", "grade"]
    classes = drawn.of("class_decision")
    found = (
        classes.filter(level="SYSTEM")
        .group_by(unit)
        .agg(
            classes=pl.len(),
            p_grade_above=pl.col("p_grade_above").max(),
            is_district_wide=pl.col("is_district_wide").any(),
        )
    )
    whole = classes.group_by(unit).agg(grade_tested=pl.col("tested").sum(), grade_in_need=pl.col("in_need").sum())
    return with_wilson(found.join(whole, on=unit), "grade_in_need", "grade_tested", "grade_need")


def carried_forward(drawn: Drawn) -> pl.DataFrame:
    placed = drawn.of("tier_placement", benchmark_window="winter")
    return placed.filter(pl.col("status") != "tested", pl.col("tier").is_not_null())


def probe_counts(drawn: Drawn) -> pl.DataFrame:
    probes = pl.col("probes")
    counted = (
        drawn.of("cycle_outcome")
        .group_by("cycle_id")
        .agg(
            students=pl.len(),
            without_probe=(probes == 0).sum(),
            fewest_probes=probes.min(),
            median_probes=probes.median(),
            most_probes=probes.max(),
            decision_slopes=(probes >= 8).sum(),
        )
    )
    cycles = drawn.of("cycle").select("school_id", "cycle_id", "state", "measure")
    return with_wilson(cycles.join(counted, on="cycle_id"), "decision_slopes", "students", "decision")


def measure_precisions(drawn: Drawn) -> pl.DataFrame:
    chosen = pl.col("is_chosen")
    return (
        drawn.of("screening_result")
        .group_by("benchmark_window", "measure")
        .agg(
            tests=pl.len(),
            valid=pl.col("is_valid").sum(),
            chosen=chosen.sum(),
            mean_score=pl.col("score").filter(chosen).mean(),
            score_errors=pl.col("standard_error").filter(chosen).count(),
            mean_standard_error=pl.col("standard_error").filter(chosen).mean(),
        )
    )


def no_math_sections(drawn: Drawn) -> pl.DataFrame:
    placed = drawn.of("tier_placement").select(
        "benchmark_window", "subject_key", "tier", is_tested=pl.col("status") == "tested"
    )
    members = drawn.of("class_membership").filter(pl.col("class_id").is_null())
    return members.join(placed, on=["benchmark_window", "subject_key"])


RECOUNTS: tuple[Callable[[Drawn], pl.DataFrame], ...] = (
    flagged_classes,
    tier_counts,
    students_without_cycle,
    unserved_needs,
    response_rates,
    tier_changes,
    coverages,
    overdue_cycles,
    deliveries,
    measure_disagreements,
    file_outcomes,
    rejections,
    entering_needs,
    persistent_flags,
    class_changes,
    system_grades,
    carried_forward,
    probe_counts,
    measure_precisions,
    no_math_sections,
)


# The page


def test_the_page_is_what_the_contracts_say():
    assert questions_page() == PAGE, "run `make docs`"


def test_the_page_asks_twenty_questions_with_their_own_sql():
    assert [(question, sql.rstrip("\n")) for question, sql in ASKED] == [(each.question, each.sql) for each in ANSWERS]
    assert len(ASKED) == len(set(ASKED)) == len(RECOUNTS) == 20


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda each: each.name)
def test_every_column_asked_for_is_explained(answer):
    assert set(answer.asked) <= set(columns(answer.contract))
    assert f"from {answer.name}" in answer.sql


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda each: each.name)
def test_an_answer_is_listed_by_place_and_time_never_by_a_result(answer):
    ordered = answer.sql.rpartition("order by ")[2]
    first = answer.asked[0] if ordered == "all" else ordered.split(",")[0]
    assert first in KEYS


# The answers


@pytest.mark.parametrize(
    ("asked", "recount"), zip(ASKED, RECOUNTS, strict=True), ids=lambda each: getattr(each, "__name__", None)
)
def test_an_answer_is_what_a_recount_gives(drawn: Drawn, asked: tuple[str, str], recount):
    answer = drawn.ask(asked[1])
    assert answer.height
    counted = [name for name in answer.columns if name != "reason"]
    expected = recount(drawn).select(counted)
    numbers = {pl.UInt32: pl.Int64, pl.Int32: pl.Int64, pl.Int8: pl.Int64}
    assert_frame_equal(
        answer.select(counted).cast(numbers), expected.cast(numbers), check_row_order=False, abs_tol=1e-9
    )


def test_a_flag_is_told_in_words_with_its_numbers(drawn: Drawn):
    flags = drawn.ask(ASKED[0][1])
    said = pl.format("{} of {} tested students", "in_need", "tested")
    assert flags.select(pl.col("reason").str.starts_with(said).all()).item()


@pytest.mark.parametrize(
    ("day", "window"),
    [
        ("2025-09-15", None),
        ("2025-09-16", "fall"),
        ("2026-01-19", "fall"),
        ("2026-01-20", "winter"),
        ("2030-01-01", "spring"),
    ],
)
def test_a_day_has_the_window_of_the_latest_reference_date(drawn: Drawn, day: str, window: str | None):
    for given in (f"'{day}'", f"date '{day}'"):
        found = drawn.ask(f"select benchmark_window from answers.window_on({given}) where district_id = '{DISTRICT}'")
        assert found["benchmark_window"].to_list() == ([] if window is None else [window])


def test_a_day_is_asked_of_each_district_by_its_own_windows(drawn: Drawn, tmp_path: Path):
    with duckdb.connect() as connection:
        connection.execute(f"attach '{drawn.path}' as given (read_only); create schema projections")
        connection.execute("create table projections.window_rule as from given.projections.window_rule")
        connection.execute(
            f"update projections.window_rule set reference_on = reference_on + 30 where district_id = '{OTHER}'"
        )
        query = answer_sql("window_on").replace("cast(day as date)", "date '2026-02-01'")
        found = dict(connection.execute(f"select district_id, benchmark_window from ({query})").fetchall())
    assert (found[DISTRICT], found[OTHER], len(found)) == ("winter", "fall", 7)


def test_nothing_is_known_of_service_where_no_cycles_are_supplied(drawn: Drawn):
    where = f"where district_id = '{WITHOUT_CYCLES}'"
    need = drawn.ask(
        f"select recommended, served, unserved, unserved_share, unserved_low from answers.unserved_need {where}"
    )
    assert need.height
    assert need["recommended"].sum() == needs(drawn, WITHOUT_CYCLES).height
    assert need.drop("recommended").null_count().row(0) == (need.height,) * 4
    assert drawn.ask(f"from answers.student_without_cycle {where}").is_empty()


def test_need_is_served_as_the_signals_of_the_school_count_it(lived: Lived):
    with connect(lived.home.warehouse) as connection:
        counted = pl.DataFrame(connection.sql(
            "select benchmark_window, school_id, sum(recommended)::bigint as recommended, sum(served)::bigint as served"
            " from answers.unserved_need group by all"
        ))  # fmt: skip
        signals = pl.DataFrame(
            connection.sql("select benchmark_window, school_id, recommended, served from projections.school_signal")
        )
    assert signals["served"].sum() > 20
    assert_frame_equal(counted, signals, check_row_order=False)


def test_the_tiers_of_a_district_are_those_of_its_summary(lived: Lived):
    """The matrix holds who is there in both windows; nobody twice."""
    with connect(lived.home.warehouse) as connection:
        moved = connection.execute(
            "select cast(sum(students) as bigint) from answers.tier_change where from_window = 'fall'"
        ).fetchone()
        both = connection.execute(
            "select count(*) from projections.tier_placement as one join projections.tier_placement as two"
            " using (district_id, school_year, subject_key)"
            " where one.benchmark_window = 'fall' and two.benchmark_window = 'winter'"
        ).fetchone()
    assert moved == both
    assert moved[0] > 500


# The names


@pytest.mark.parametrize("answer", [*ANSWERS, *HELPERS], ids=lambda each: each.name)
def test_an_answer_has_the_columns_types_and_words_of_its_contract(drawn: Drawn, answer):
    given = "('2026-02-01')" if answer.parameters else ""
    name = table_name(answer.contract)
    with connect(drawn.path) as connection:
        described = connection.execute(f"describe select * from {answer.name}{given}").fetchall()
        if answer.parameters:
            found = (
                "select comment, parameters from duckdb_functions() where schema_name = 'answers' and function_name = ?"
            )
            comment, parameters = connection.execute(found, [name]).fetchone()
            assert parameters == list(answer.parameters)
            assert all(meaning in comment for meaning in answer.parameters.values())
        else:
            (comment,) = connection.execute("select comment from duckdb_views() where view_name = ?", [name]).fetchone()
            told = "select column_name, comment from duckdb_columns() where schema_name = 'answers' and table_name = ?"
            assert dict(connection.execute(told, [name]).fetchall()) == descriptions(answer.contract)
    assert [row[:2] for row in described] == [
        (each, duckdb_type(kind)) for each, kind in columns(answer.contract).items()
    ]
    assert comment.startswith(summary(answer.contract))
    assert comment.endswith(EDUCATION_RECORD)


@pytest.mark.parametrize("answer", [*ANSWERS, *HELPERS], ids=lambda each: each.name)
def test_a_row_of_an_answer_is_what_its_contract_says(drawn: Drawn, answer):
    given = "('2026-02-01')" if answer.parameters else ""
    rows = drawn.ask(f"select * from {answer.name}{given}")
    keys = answer.contract.to_schema().unique
    assert rows.height
    assert not rows.select(keys).is_duplicated().any()
    never = [name for name, column in answer.contract.to_schema().columns.items() if not column.nullable]
    assert rows.select(never).null_count().sum_horizontal().item() == 0


def test_the_file_lists_its_questions(drawn: Drawn):
    listed = drawn.ask("select * from answers.question order by number")
    assert listed.columns == list(columns(Question))
    assert listed.select("question", "sql").rows() == [(each.question, each.sql) for each in ANSWERS]
    shown = drawn.ask("select name from (show all tables) where schema = 'answers'")
    assert set(shown["name"]) == {table_name(each.contract) for each in ANSWERS if not each.parameters} | {"question"}


def test_everything_in_the_schema_is_in_the_dictionary(drawn: Drawn):
    page = dictionary()
    made = drawn.ask(
        "select function_name as name from duckdb_functions() where schema_name = 'answers'"
        " union select view_name from duckdb_views() where schema_name = 'answers'"
    )
    assert set(made["name"]) == {table_name(each.contract) for each in (*ANSWERS, *HELPERS)} | {"question", *SCALARS}
    assert not [name for name in made["name"] if f"### {name}" not in page and f"- `{name}(" not in page]


def test_the_interval_of_a_share_is_that_of_the_transforms(drawn: Drawn):
    pairs = [(0, 5), (5, 5), (1, 3), (17, 240), (0, 1)]
    for y, n in pairs:
        found = drawn.ask(f"select answers.wilson_low({y}, {n}) as low, answers.wilson_high({y}, {n}) as high").row(0)
        assert found == pytest.approx(tuple(float(each) for each in wilson(y, n)), abs=1e-12)
    assert drawn.ask("select answers.wilson_low(0, 0), answers.wilson_high(0, 0)").row(0) == (None, None)


def test_answers_of_another_release_go_with_the_next_publish(tmp_path: Path):
    target = tmp_path / "warehouse.duckdb"
    publish(target, {})
    with connect(target, read_only=False) as connection:
        connection.execute("create view answers.gone as select 1; create macro answers.past(x) as x")
    publish(target, {}, set())
    with connect(target) as connection:
        views = connection.execute("select view_name from duckdb_views() where schema_name = 'answers'").fetchall()
        macros = connection.execute(
            "select function_name from duckdb_functions() where schema_name = 'answers'"
        ).fetchall()
    assert ("gone",) not in views
    assert ("past",) not in macros
    assert len(views) + len(macros) == len(ANSWERS) + len(HELPERS) + len(SCALARS) + 1


@pytest.mark.parametrize("name", [table_name(each.contract) for each in (*ANSWERS, *HELPERS)] + list(SCALARS))
def test_no_answer_holds_a_threshold_or_blames(name: str):
    sql = re.sub(r"'[^']*'", "", answer_sql(name))
    assert set(re.findall(r"(?:>=?|<=?|between)\s*(\d+(?:\.\d+)?)", sql)) <= {"0"}
    assert ";" not in sql
    assert not re.search(r"\b(create|insert|update|delete|limit|rank|row_number)\b", sql, re.IGNORECASE)
    assert not [word for word in FORBIDDEN if word in sql.lower()]


@pytest.mark.parametrize("answer", [*ANSWERS, *HELPERS], ids=lambda each: each.name)
def test_an_answer_opens_with_its_question(answer):
    assert answer_sql(table_name(answer.contract)).startswith(f"-- {answer.question}\n")
    assert all(descriptions(answer.contract).values())
