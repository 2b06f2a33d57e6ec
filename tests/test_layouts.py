"""Layouts: every one recognises its sample, reads it as counted by hand, and says what its page says."""

import gzip
import json
import re
import shutil
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from pipelines.loading import Loader
from schemas.events import EVENT_TYPES, PAYLOADS
from schemas.exports import Column, Fact, Layout, layouts
from tests.tables import rows as table_rows
from transforms.exports import Context, Parsed, parse
from transforms.recognition import Held, Recognised, recognise
from warehouse.home import Home
from warehouse.tabular import read_table

ROOT = Path(__file__).resolve().parents[1]
EXPORTS = ROOT / "tests" / "exports"
DOCS = ROOT / "docs"
SAMPLES = ROOT.parent / "shared" / "samples"
OURS = ("cycle_log", "datas", "district_csv", "fastbridge", "iready", "star")

COUNTS = """
    file                          | parsed | rejected | out_of_scope | facts | empty | bad
    cycle_log_attendance.csv      | 5      | 1        | 0            | 5     | 0     | 0
    cycle_log_contacts.csv        | 4      | 1        | 0            | 4     | 0     | 0
    cycle_log_curriculum.csv      | 3      | 2        | 0            | 3     | 0     | 0
    cycle_log_cycles.csv          | 3      | 2        | 0            | 5     | 1     | 0
    cycle_log_events.jsonl        | 17     | 2        | 0            | 16    | 238   | 1
    cycle_log_evidence.csv        | 4      | 1        | 0            | 4     | 0     | 0
    cycle_log_members.csv         | 4      | 1        | 0            | 7     | 5     | 0
    cycle_log_probes.csv          | 4      | 1        | 0            | 4     | 0     | 0
    cycle_log_referrals.csv       | 4      | 1        | 0            | 4     | 0     | 0
    cycle_log_sessions.csv        | 5      | 1        | 0            | 9     | 6     | 0
    cycle_log_tier_decisions.csv  | 3      | 2        | 0            | 3     | 0     | 0
    datas_sessions.csv            | 5      | 2        | 2            | 10    | 0     | 0
    datas_students.csv            | 5      | 0        | 0            | 18    | 27    | 0
    district_csv.csv              | 8      | 1        | 0            | 6     | 9     | 1
    fastbridge_amath.csv          | 6      | 0        | 0            | 6     | 23    | 1
    fastbridge_cbmmath_auto.csv   | 5      | 0        | 0            | 7     | 68    | 0
    fastbridge_cbmmath_cap.csv    | 5      | 0        | 0            | 5     | 20    | 0
    fastbridge_cbmmath_process.csv| 5      | 0        | 0            | 5     | 120   | 0
    fastbridge_progress.csv       | 6      | 1        | 1            | 5     | 1     | 0
    iready_2021.csv               | 5      | 0        | 0            | 4     | 1     | 0
    iready_2022.csv               | 4      | 1        | 0            | 4     | 0     | 0
    iready_2023.csv               | 5      | 0        | 0            | 4     | 1     | 0
    iready_2025.csv               | 5      | 0        | 0            | 5     | 0     | 0
    iready_2026.csv               | 6      | 2        | 0            | 5     | 1     | 0
    iready_2027.csv               | 5      | 0        | 0            | 5     | 0     | 0
    iready_ela.csv                | 0      | 0        | 5            | 0     | 0     | 0
    star_math.csv                 | 8      | 0        | 0            | 8     | 0     | 0
    star_reading.csv              | 0      | 0        | 5            | 0     | 0     | 0
"""

REAL = """
    file                                                  | layout                     | parsed | rejected | out_of_scope | facts | empty | bad
    iready/i-Ready_sample_anonymized_file_math.csv        | iready_2026                | 5      | 0        | 0            | 5     | 0     | 0
    iready/i-Ready_sample_anonymized_file_ela.csv         | iready_ela                 | 0      | 0        | 5            | 0     | 0     | 0
    oea_iready/diagnostic_results_math.csv.gz             | iready_2022                | 250    | 0        | 0            | 250   | 0     | 0
    renaissance_star/SR_sample_anonymized_file.csv        | star_reading               | 0      | 0        | 5            | 0     | 0     | 0
    fastbridge/sample_anonymized_aMath.csv                | fastbridge_amath           | 10     | 0        | 0            | 7     | 43    | 0
    fastbridge/fake_aMath.csv                             | fastbridge_amath           | 5      | 0        | 0            | 2     | 11    | 12
    fastbridge/sample_anonymized_file_cbmm_cap.csv        | fastbridge_cbmmath_cap     | 5      | 0        | 0            | 6     | 19    | 0
    fastbridge/sample_anonymized_file_cbmm_auto.csv       | fastbridge_cbmmath_auto    | 5      | 0        | 0            | 15    | 60    | 0
    fastbridge/sample_anonymized_file_cbmm_process.csv    | fastbridge_cbmmath_process | 5      | 0        | 0            | 8     | 117   | 0
    datas_tutoring/session_example_first3000.csv          | datas_sessions             | 1984   | 0        | 1016         | 3968  | 0     | 0
    datas_tutoring/student_example_first1000.csv          | datas_students             | 1000   | 0        | 0            | 8980  | 20    | 0
"""  # noqa: E501

HELD = (
    "fastbridge/FastBridge_Math_earlyMath_sample_anonymized_file.csv",
    "renaissance_star/SR_Dashboard_Standards_v2_sample_anonymized_file.csv",
    "renaissance_star/SR_SkillArea_v1_sample_anonymized_file.csv",
    "oea_iready/diagnostic_and_instruction_math_ytd_window.csv.gz",
    "oea_iready/personalized_instruction_by_lesson_math.csv.gz",
    "datas_tutoring/session_dictionary.csv",
    "star/star_sample.csv.gz",
    "ilearn/ilearn_sample_data.csv",
    "dibels8_mclass/Dibels_8_Benchmark_sample_anonymized_file.csv",
)

CUSTOM = {
    "iready_2022": {"504 Eligible", "Foster Youth"},
    "iready_2023": {"504 Eligible", "Gifted and Talented (GATE)"},
}
"""Columns of a district's own in its samples."""

STREAM = layouts()["cycle_log_events"]
CYCLE_LOG = {name: layout for name, layout in layouts().items() if layout.kind == "cycle_log" and layout is not STREAM}


def read(path: Path) -> tuple[Recognised | Held, Parsed | None]:
    data = path.read_bytes()
    return read_bytes(gzip.decompress(data) if path.suffix == ".gz" else data, path.name)


def read_bytes(data: bytes, name: str) -> tuple[Recognised | Held, Parsed | None]:
    table = read_table(data, name)
    found = recognise(table.header, name, layouts())
    if isinstance(found, Held):
        return found, None
    context = Context("d1", name, datetime(2026, 10, 1, tzinfo=UTC), "America/Denver")
    return found, parse(table.rows, found.binding, context)


def parsed(name: str) -> Parsed:
    found, result = read(EXPORTS / name)
    assert isinstance(found, Recognised), found
    assert result is not None
    return result


def counts(result: Parsed) -> dict[str, str]:
    outcomes = {name: result.outcomes.filter(pl.col("outcome") == name).height for name in ("parsed", "rejected")}
    return {
        **{name: str(count) for name, count in outcomes.items()},
        "out_of_scope": str(result.outcomes.filter(pl.col("outcome") == "out_of_scope").height),
        "facts": str(sum(frame.height for frame in result.facts.values())),
        "empty": str(result.facts_empty),
        "bad": str(result.facts_rejected),
    }


def facts_of(result: Parsed, event: str) -> pl.DataFrame:
    return result.facts[EVENT_TYPES[event].family].filter(pl.col("event_type") == event)


@pytest.mark.parametrize("expected", table_rows(COUNTS), ids=lambda row: row["file"])
def test_every_sample_is_read_as_counted_by_hand(expected: dict[str, str]):
    path = EXPORTS / expected["file"]
    found, result = read(path)
    assert isinstance(found, Recognised), found
    assert found.binding.layout.id == path.stem
    assert result is not None
    assert counts(result) == {name: expected[name] for name in expected if name != "file"}


@pytest.mark.parametrize("expected", table_rows(COUNTS), ids=lambda row: row["file"])
def test_facts_of_a_sample_add_up(expected: dict[str, str]):
    whole = sum(int(expected[name]) for name in ("facts", "empty", "bad"))
    found, result = read(EXPORTS / expected["file"])
    assert isinstance(found, Recognised) and result is not None
    assert whole == int(expected["parsed"]) * result.slots


def test_every_layout_of_these_files_has_a_sample():
    samples = {path.stem for path in EXPORTS.iterdir()}
    assert {name for name in layouts() if name.startswith(OURS)} <= samples


@pytest.mark.parametrize("path", sorted(EXPORTS.iterdir()), ids=lambda path: path.name)
def test_a_vendors_own_headers_are_never_new(path: Path):
    custom = CUSTOM.get(path.stem, set())
    found, _ = read(path)
    assert isinstance(found, Recognised)
    assert set(found.binding.new) == custom


@pytest.mark.parametrize("expected", table_rows(REAL), ids=lambda row: row["file"])
def test_real_files_are_read_as_counted_by_hand(expected: dict[str, str]):
    path = SAMPLES / expected["file"]
    if not path.exists():
        pytest.skip("the real samples are not beside this repository")
    found, result = read(path)
    assert isinstance(found, Recognised), found
    assert found.binding.layout.id == expected["layout"]
    assert found.binding.new == ()
    assert result is not None
    assert counts(result) == {name: expected[name] for name in expected if name not in ("file", "layout")}


@pytest.mark.parametrize("name", HELD)
def test_other_exports_are_held_as_unknown(name: str):
    path = SAMPLES / name
    if not path.exists():
        pytest.skip("the real samples are not beside this repository")
    found, _ = read(path)
    assert isinstance(found, Held)
    assert found.rule == "unknown_layout"


def test_no_layout_keeps_local_percentiles_or_maps_a_vault_column_to_a_fact():
    for layout in layouts().values():
        if not layout.id.startswith(OURS):
            continue
        for name, column in layout.columns.items():
            assert column.vault == (name in ("given_name", "family_name", "birth_date")), (layout.id, name)
    read_headers = {
        column.pattern or "" for block in layouts()["fastbridge_amath"].blocks for column in block.columns.values()
    }
    assert not any("School" in pattern or "LEA" in pattern for pattern in read_headers)


# i-Ready


def test_an_iready_test_has_one_fact_whatever_the_year_of_its_layout():
    """The columns that make the natural key and content are the same in all six layouts."""
    kept = ("test_family", "measure", "test_name", "vendor_test_id", "form", "started_at", "season_slot")
    seen = {
        parsed(f"iready_{year}.csv").facts["screening"].select(kept).unique().rows()[0]
        for year in (2021, 2022, 2023, 2025, 2026, 2027)
    }
    assert seen == {("iready", "iready_math", "i-Ready Diagnostic Math", None, None, None, None)}


def test_an_iready_test_belongs_to_the_day_it_was_completed():
    winter = parsed("iready_2022.csv").facts["screening"].filter(pl.col("score") == 466)
    assert winter["occurred_on"].to_list() == [date(2021, 12, 9)]


def test_an_iready_test_that_is_not_completed_leaves_its_slot_empty():
    assert parsed("iready_2026.csv").outcomes.filter(pl.col("source_line") == 6)["outcome"].to_list() == ["parsed"]
    assert 6 not in parsed("iready_2026.csv").facts["screening"]["source_line"].to_list()


def test_iready_norming_windows_are_labels_and_older_files_have_none():
    assert parsed("iready_2026.csv").facts["screening"]["window_label"].to_list() == [
        "fall",
        "winter",
        "fall",
        "fall",
        "outside",
    ]
    assert parsed("iready_2025.csv").facts["screening"]["window_label"].null_count() == 5


def test_iready_strands_carry_the_relative_placement():
    strands = parsed("iready_2026.csv").facts["screening"]["strands"][0].to_list()
    assert [strand["strand"] for strand in strands] == [
        "Number and Operations",
        "Algebra and Algebraic Thinking",
        "Measurement and Data",
        "Geometry",
    ]
    assert [strand["label"] for strand in strands] == [None, *["1 Grade Level Below"] * 3]


# Star


def test_the_star_day_is_local_although_it_ends_in_z():
    days = dict(parsed("star_math.csv").facts["screening"].select("source_line", "occurred_on").rows())
    assert days[3] == date(2025, 8, 21)
    assert days[6] == date(2025, 10, 2)
    assert days[7] == date(2025, 8, 22)


def test_the_star_error_belongs_to_the_rasch_score():
    first = parsed("star_math.csv").facts["screening"].row(0, named=True)
    assert (first["score"], first["rasch_score"], first["standard_error"]) == (512, -0.41, 0.3957837)
    assert first["standard_error_unit"] == "rasch"


def test_a_deactivated_star_test_is_withdrawn_and_a_test_outside_its_windows_says_so():
    tests = parsed("star_math.csv").facts["screening"]
    assert tests.filter("is_withdrawn")["source_line"].to_list() == [7]
    assert tests["window_label"].to_list() == ["fall", "fall", "fall", "winter", "outside", "fall", "fall", "spring"]


def test_a_star_row_without_the_local_id_takes_the_state_id():
    last = parsed("star_math.csv").facts["screening"].row(-1, named=True)
    assert (last["own_id_type"], last["own_id"]) == ("state", "900007")


# FastBridge


def test_a_fastbridge_season_is_a_slot_named_as_the_district_names_it():
    slots = parsed("fastbridge_amath.csv").facts["screening"].select("season_slot", "window_label").unique().rows()
    assert set(slots) == {
        ("Fall MS", "fall"),
        ("Winter", "winter"),
        ("Feb-Mar", None),
        ("Screening Period 4", "outside"),
    }


def test_levels_of_automaticity_are_measures_and_growth_columns_do_not_mix_them():
    tests = parsed("fastbridge_cbmmath_auto.csv").facts["screening"]
    assert tests.filter(pl.col("source_line") == 3).select("measure", "score", "percentile").rows() == [
        ("fastbridge_cbmmath_auto_l1", 21.0, 9.0),
        ("fastbridge_cbmmath_auto_l3", 93.7, 97.0),
    ]


def test_one_probe_in_two_metrics_is_two_measures():
    probes = parsed("fastbridge_progress.csv").facts["session"]
    assert probes.filter(pl.col("source_line").is_in([3, 4])).select("measure", "score", "goal_score").rows() == [
        ("fastbridge_cbmmath_auto_l2", 118.0, 150.0),
        ("fastbridge_cbmmath_auto_l2_per_minute", 11.8, 15.0),
    ]


# DATAS


def test_a_datas_row_is_a_session_and_an_attendance_of_one_student_and_tutor():
    rows = parsed("datas_sessions.csv").facts["session"].filter(pl.col("source_line") == 2)
    kept = ("event_type", "own_id", "group_id", "starts_at", "tutor_key", "held_minutes", "attended_minutes")
    assert rows.select(kept).rows() == [
        ("SessionHeld", "0016740395", None, "2025-11-13T14:40:00", "T1", 45.0, None),
        ("AttendanceRecorded", "0016740395", None, "2025-11-13T14:40:00", "T1", None, 45.0),
    ]


def test_a_session_of_no_minutes_says_nothing_about_attendance():
    rows = facts_of(parsed("datas_sessions.csv"), "AttendanceRecorded").filter(pl.col("source_line") == 8)
    assert rows.select("attendance", "attended_minutes").rows() == [("unknown", 0.0)]


def test_a_blank_flag_is_no_fact():
    groups = parsed("datas_students.csv").facts["description"].filter(pl.col("source_line") == 3)
    assert groups.select("group_kind", "group_value").rows() == [
        ("grade", "K"),
        ("gender", "Male"),
        ("english_learner", "yes"),
    ]


# The district CSV


def test_a_district_row_is_a_test_or_a_reason():
    result = parsed("district_csv.csv")
    assert facts_of(result, "NotTested").select("status", "window_label", "school_year").rows() == [
        ("absent", "fall", "2026"),
        ("exempt_alternate", "winter", "2026"),
    ]
    assert facts_of(result, "ScreenerScored").select("score", "percentile", "grade", "is_invalid").rows() == [
        (31.0, 22.0, "4", False),
        (44.5, 0.0, "K", None),
        (12.0, None, "4", True),
        (40.0, None, "4", None),
    ]


# The cycle log


def test_a_blank_group_is_the_cycle():
    sessions = facts_of(parsed("cycle_log_sessions.csv"), "SessionScheduled")
    assert sessions["group_id"].to_list() == [*["elm-2026-03"] * 3, *["group-b"] * 2]
    assert facts_of(parsed("cycle_log_attendance.csv"), "AttendanceRecorded")["group_id"].to_list() == [
        *["elm-2026-03"] * 3,
        *["group-b"] * 2,
    ]


def test_blank_minutes_are_unknown_and_zero_is_zero():
    attendance = facts_of(parsed("cycle_log_attendance.csv"), "AttendanceRecorded")
    assert attendance.select("attendance", "attended_minutes").rows() == [
        ("present", 28.0),
        ("partial", 12.0),
        ("absent", None),
        ("present", None),
        ("unknown", None),
    ]
    assert facts_of(parsed("cycle_log_members.csv"), "StudentJoined")["baseline"].to_list() == [4.0, 0.0, None, 12.5]


def test_a_session_row_is_scheduled_and_then_held_or_cancelled():
    result = parsed("cycle_log_sessions.csv").facts["session"]
    assert result.filter(pl.col("source_line") == 3).select(
        "event_type", "cancel_reason", "planned_minutes"
    ).rows() == [
        ("SessionScheduled", None, 30.0),
        ("SessionCancelled", "testing", None),
    ]
    assert result.filter(pl.col("source_line") == 4)["event_type"].to_list() == ["SessionScheduled"]


def test_sessions_of_a_group_mean_no_student():
    assert facts_of(parsed("cycle_log_events.jsonl"), "SessionHeld")["own_id"].to_list() == [None]


def test_notes_leave_their_length_only():
    result = parsed("cycle_log_evidence.csv")
    assert result.facts["session"]["note_chars"].to_list()[:2] == [46, 11]
    assert result.notes["source_line"].to_list() == [2, 3, 4]


def test_both_forms_of_the_cycle_log_state_the_same_facts():
    """Every fact of the stream stands in a CSV sample with the same day, school, student and payload."""
    stream = parsed("cycle_log_events.jsonl")
    from_tables: dict[str, list[pl.DataFrame]] = {}
    for name in CYCLE_LOG:
        for family, frame in parsed(f"{name}.csv").facts.items():
            from_tables.setdefault(family, []).append(frame)
    for family, frame in stream.facts.items():
        compared = ["event_type", "own_id_type", "own_id", "school_id", "school_year", "occurred_on"]
        compared += PAYLOADS[family]
        left = frame.select(compared)
        right = pl.concat(from_tables[family]).select(compared)
        assert left.join(right, on=compared, how="semi", nulls_equal=True).height == left.height, family


def test_a_stream_after_the_csv_files_changes_nothing(tmp_path: Path):
    """Keys and contents are equal too: every fact of the stream is already known, under a later export time."""
    home = Home(tmp_path).make()
    (home.policies / "d1.toml").write_text('time_zone = "America/Denver"\n')
    first, second = home.landing / "d1" / "2026-09-01", home.landing / "d1" / "2026-09-02"
    for folder in (first, second):
        folder.mkdir(parents=True)
    for name in CYCLE_LOG:
        shutil.copy(EXPORTS / f"{name}.csv", first)
    shutil.copy(EXPORTS / "cycle_log_events.jsonl", second)
    stream = next(row for row in Loader(home).load("d1").rows if row["layout"] == STREAM.id)
    changes = ("facts_appended", "facts_corrected", "facts_unchanged", "facts_rejected")
    assert [stream[name] for name in changes] == [0, 0, 16, 1]


def _slot(layout: Layout, event: str) -> tuple[Fact, dict[str, Column]]:
    """A slot of a CSV layout and every column it reads."""
    fact = next(fact for fact in layout.facts if fact.event == event)
    return fact, {name: fact.columns.get(name) or layout.columns[name] for name in ("occurred_on", *fact.only)}


@pytest.mark.parametrize("event", [fact.event for fact in STREAM.facts])
def test_a_slot_of_the_stream_reads_what_the_csv_slot_reads(event: str):
    layout = next(each for each in CYCLE_LOG.values() if any(fact.event == event for fact in each.facts))
    fact, expected = _slot(layout, event)
    streamed, found = _slot(STREAM, event)
    assert streamed.only == fact.only
    assert {name: _read(column) for name, column in found.items()} == {
        name: _read(column, "data.") for name, column in expected.items()
    }


def _read(column: Column, prefix: str = "") -> Column:
    """What a column says, apart from whether it must be there."""
    headers = tuple(f"{prefix}{header}" for header in column.headers)
    return column.model_copy(update={"headers": headers, "required": False, "header_required": False})


def test_a_stream_whose_lines_all_lack_a_required_column_loses_no_line():
    line = {
        "specversion": "1.0",
        "id": "1",
        "source": "s",
        "type": "org.tierline.CycleClosed",
        "data": {"cycle_id": "c"},
    }
    found, result = read_bytes(json.dumps(line).encode(), "events.jsonl")
    assert isinstance(found, Recognised)
    assert found.binding.missing == ()
    assert result is not None
    assert counts(result) == {
        "parsed": "1",
        "rejected": "0",
        "out_of_scope": "0",
        "facts": "0",
        "empty": "14",
        "bad": "1",
    }


def test_a_stream_of_one_kind_of_event_needs_no_column_of_another():
    data = {"student_id": "41001", "referred_on": "2025-09-02", "referred_by": "teacher"}
    line = {"specversion": "1.0", "id": "1", "source": "s", "type": "org.tierline.StudentReferred", "data": data}
    found, result = read_bytes(json.dumps(line).encode(), "events.jsonl")
    assert isinstance(found, Recognised)
    assert result is not None
    assert facts_of(result, "StudentReferred").select("own_id", "referred_by").rows() == [("41001", "teacher")]


def test_a_group_with_a_slash_is_refused():
    text = "cycle_id,group_id,starts_at,status\nc1,a / b,2025-09-15 10:15,held\n"
    _, result = read_bytes(text.encode(), "sessions.csv")
    assert result is not None
    assert result.rejected.select("column", "rule").rows() == [("group_id", "not_understood")]


# The pages of our own formats


@pytest.mark.parametrize("page", ["cycle-log.md", "district-csv.md"])
def test_every_example_of_a_page_loads_whole(page: str):
    text = (DOCS / page).read_text("utf-8")
    examples = re.findall(r"```(csv|json)\n(.*?)```", text, re.DOTALL)
    assert examples
    for form, example in examples:
        found, result = read_bytes(example.encode(), "example.jsonl" if form == "json" else "example.csv")
        assert isinstance(found, Recognised), example
        assert found.binding.new == ()
        assert result is not None
        assert result.rejected.is_empty(), example
        assert sum(frame.height for frame in result.facts.values()) > 0


def test_pages_name_every_column_and_every_code():
    for page, covered in (("cycle-log.md", CYCLE_LOG), ("district-csv.md", {"": layouts()["district_csv"]})):
        text = (DOCS / page).read_text("utf-8")
        for layout in covered.values():
            columns = [*layout.columns.values(), *(column for fact in layout.facts for column in fact.columns.values())]
            words = {header for column in columns for header in column.headers}
            words |= {value for column in columns if column.type == "code" for value in column.values.values()}
            assert not {word for word in words if f"`{word}`" not in text}, layout.id


def test_the_page_lists_every_type_of_the_stream():
    text = (DOCS / "cycle-log.md").read_text("utf-8")
    assert set(re.findall(r"^\| `(org\.tierline\.\w+)`", text, re.MULTILINE)) == set(STREAM.columns["says"].values)
