"""Rows of exports: what each becomes, why one is rejected, and that everything adds up."""

import csv
import io
import zipfile
from datetime import date

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.contract import columns
from schemas.events import EVENT_TYPES, FAMILIES, PAYLOADS
from schemas.exports import layouts
from tests.examples import examples
from tests.parsing import EXPORTS, assert_adds_up, facts, made, outcomes, read, real, rejections, sample
from tests.tables import rows as table_rows
from transforms.exports import unhashed, wanted

COUNTS = """
    layout                       | parsed | rejected | out_of_scope | facts | empty | bad
    nwea_map_accommodations      | 1      | 0        | 0            | 0     | 0     | 0
    nwea_map_assessment_results  | 5      | 2        | 1            | 4     | 1     | 0
    nwea_map_class_assignments   | 4      | 2        | 0            | 4     | 0     | 0
    nwea_map_combo               | 3      | 1        | 1            | 3     | 0     | 0
    nwea_map_program_assignments | 2      | 0        | 0            | 0     | 0     | 0
    nwea_map_students            | 4      | 2        | 0            | 3     | 1     | 0
    oneroster_academic_sessions  | 3      | 1        | 0            | 3     | 0     | 0
    oneroster_classes            | 2      | 2        | 0            | 2     | 0     | 0
    oneroster_courses            | 2      | 1        | 0            | 2     | 0     | 0
    oneroster_demographics       | 2      | 1        | 0            | 2     | 2     | 0
    oneroster_enrollments        | 5      | 3        | 0            | 4     | 6     | 0
    oneroster_manifest           | 3      | 0        | 0            | 0     | 0     | 0
    oneroster_orgs               | 3      | 1        | 0            | 3     | 0     | 0
    oneroster_roles              | 3      | 1        | 0            | 3     | 3     | 0
    oneroster_user_profiles      | 1      | 0        | 0            | 0     | 0     | 0
    oneroster_users_1p1          | 6      | 2        | 0            | 6     | 5     | 1
    oneroster_users_1p2          | 2      | 1        | 0            | 1     | 1     | 0
"""


@pytest.mark.parametrize("expected", table_rows(COUNTS), ids=lambda row: row["layout"])
def test_every_sample_is_read_as_counted_by_hand(expected: dict[str, str]):
    parsed = sample(expected["layout"])
    counted = {name: str(outcomes(parsed).count(name)) for name in ("parsed", "rejected", "out_of_scope")}
    counted["facts"] = str(sum(frame.height for frame in parsed.facts.values()))
    counted |= {"empty": str(parsed.facts_empty), "bad": str(parsed.facts_rejected)}
    assert counted == {name: expected[name] for name in counted}


def test_every_layout_of_nwea_and_oneroster_has_a_sample():
    written = {row["layout"] for row in table_rows(COUNTS)}
    assert written == {name for name in layouts() if name.startswith(("nwea", "oneroster"))}
    assert all((EXPORTS / f"{name}.csv").exists() for name in written)


@pytest.mark.parametrize("path", sorted(EXPORTS.glob("*.csv")), ids=lambda path: path.name)
def test_facts_have_the_columns_and_types_of_their_contract(path):
    _, parsed = read(path.read_bytes(), name=path.name)
    assert_adds_up(parsed, len(list(csv.reader(io.StringIO(path.read_text("utf-8-sig"))))) - 1)
    for family, frame in parsed.facts.items():
        contract = columns(FAMILIES[family])
        payload = {name: frame.schema[name] for name in PAYLOADS[family]}
        assert payload == {name: contract[name] for name in PAYLOADS[family]}
        assert frame["slot"].dtype == pl.Int32
        assert set(frame["event_type"]) <= {name for name, each in EVENT_TYPES.items() if each.family == family}


# The rules, on layouts of vendors that do not exist

COLUMNS = {
    "student_id": {"headers": ["ID"], "type": "id", "id_type": "local", "required": True},
    "state_id": {"headers": ["State ID"], "type": "id", "id_type": "state"},
    "subject": {"headers": ["Subject"]},
    "occurred_on": {"headers": ["Date"], "type": "date", "required": True},
    "school_year": {"headers": ["Year"], "type": "school_year"},
    "score": {"headers": ["Score"], "type": "number", "min": 0, "max": 100},
    "percentile": {"headers": ["PR"], "type": "percentile"},
}
ONE = made(
    columns=COLUMNS,
    people=["student_id", "state_id"],
    scope={"column": "subject", "values": ["Math"]},
    facts=[{"event": "ScreenerScored", "constants": {"measure": "made"}, "filled_by": ["score"]}],
)
ONE_HEADER = "ID,State ID,Subject,Date,Year,Score,PR\n"
MANY = made(
    columns={name: COLUMNS[name] for name in ("student_id", "occurred_on")},
    people=["student_id"],
    blocks=[
        {
            "event": "ScreenerScored",
            "opens": "^(?P<season>Fall|Spring)$",
            "filled_by": ["score"],
            "columns": {
                "season_slot": {"capture": "season"},
                "score": {"position": True, "type": "number"},
                "percentile": {"headers": ["PR"], "type": "percentile"},
                "grade": {"headers": ["Grade"], "type": "grade", "required": True},
            },
        }
    ],
    facts=[
        {
            "event": "StudentDescribed",
            "constants": {"group_kind": "asian"},
            "columns": {"group_value": {"headers": ["Asian"], "type": "boolean"}},
            "filled_by": ["group_value"],
        }
    ],
)
MANY_HEADER = "ID,Date,Asian,Fall,PR,Grade,Spring,PR,Grade\n"


def test_every_broken_cell_of_a_row_is_named_not_only_the_first():
    _, parsed = read(ONE_HEADER + "1,,Math,soon,26,101,x\n", ONE)
    assert outcomes(parsed) == ["rejected"]
    assert rejections(parsed) == [
        (2, None, "Date", "not_a_date"),
        (2, None, "PR", "not_a_percentile"),
        (2, None, "Score", "out_of_range"),
        (2, None, "Year", "not_a_school_year"),
    ]


REJECTED = """
    row                           | column  | rule
    1,,Math,,2026,5,              | Date    | missing_value
    1,,Math,2026-09-01,2027,five, | Score   | not_a_number
    1,,Math,2026-09-01,2027,101,  | Score   | out_of_range
    1,,Math,1979-09-01,,5,        | Date    | out_of_range
    1,,Math,2027-12-01,,5,        | Date    | out_of_range
    1,,Math,9/31/2026,,5,         | Date    | not_a_date
    1,,Math,2026-09-01,FY,5,      | Year    | not_a_school_year
    1,,Math,2026-09-01,,5,P       | PR      | not_a_percentile
    ,,Math,2026-09-01,,5,         | ID      | missing_student_id
    0,0,Math,2026-09-01,,5,       | ID      | missing_student_id
    1,,,2026-09-01,,5,            | Subject | missing_value
"""


@pytest.mark.parametrize("expected", table_rows(REJECTED), ids=lambda row: f"{row['column']} {row['rule']}")
def test_a_row_is_rejected_for(expected: dict[str, str]):
    _, parsed = read(f"{ONE_HEADER}{expected['row']}\n", ONE)
    assert outcomes(parsed) == ["rejected"]
    assert rejections(parsed) == [(2, None, expected["column"], expected["rule"])]
    assert parsed.facts["screening"].is_empty()
    assert parsed.identifiers.is_empty()


def test_another_subject_is_out_of_scope_whatever_its_cells_say():
    _, parsed = read(ONE_HEADER + ",,Science,soon,x,x,x\n1,,MATH,2026-09-01,,5,\n", ONE)
    assert outcomes(parsed) == ["out_of_scope", "parsed"]
    assert parsed.rejected.is_empty()


def test_an_own_id_is_the_first_there_is():
    _, parsed = read(ONE_HEADER + "1,9,Math,2026-09-01,,5,\n,8,Math,2026-09-01,,5,\n", ONE)
    assert facts(parsed, "screening", "own_id_type", "own_id") == [("local", "1"), ("state", "8")]
    assert parsed.identifiers.select("own_id", "column", "id_type", "id").rows() == [
        ("1", "ID", "local", "1"),
        ("1", "State ID", "state", "9"),
        ("8", "State ID", "state", "8"),
    ]


def test_a_row_without_what_fills_its_slot_is_parsed_and_says_nothing():
    _, parsed = read(ONE_HEADER + "1,,Math,2026-09-01,,,30\n", ONE)
    assert (outcomes(parsed), parsed.facts_empty) == (["parsed"], 1)
    assert parsed.identifiers.height == 1


def test_a_declared_school_year_wins_and_disagreement_is_counted():
    text = "1,,Math,2026-09-01,2026,5,\n2,,Math,2026-09-01,2027,5,\n3,,Math,2026-06-30,,5,\n4,,Math,2026-07-01,,5,\n"
    _, parsed = read(ONE_HEADER + text, ONE)
    assert [year for (year,) in facts(parsed, "screening", "school_year")] == ["2026", "2027", "2026", "2027"]
    assert parsed.findings.rows() == [("school_year_disagrees", 1)]


def test_a_broken_cell_of_a_block_rejects_its_slot_alone():
    _, parsed = read(MANY_HEADER + "1,2026-09-01,no,50,x,3,60,20,3\n", MANY)
    assert outcomes(parsed) == ["parsed"]
    assert facts(parsed, "screening", "slot", "season_slot", "score") == [(2, "Spring", 60.0)]
    assert rejections(parsed) == [(2, 1, "PR", "not_a_percentile")]
    assert (parsed.slots, parsed.facts_empty, parsed.facts_rejected) == (3, 0, 1)


def test_a_broken_cell_of_the_row_rejects_every_slot():
    _, parsed = read(MANY_HEADER + "1,soon,no,50,10,3,60,20,3\n", MANY)
    assert outcomes(parsed) == ["rejected"]
    assert rejections(parsed) == [(2, None, "Date", "not_a_date")]


def test_what_a_block_needs_is_missing_only_where_the_block_is_filled():
    _, parsed = read(MANY_HEADER + "1,2026-09-01,,50,10,,,,\n", MANY)
    assert rejections(parsed) == [(2, 1, "Grade", "missing_value")]
    assert (parsed.facts_empty, parsed.facts_rejected) == (2, 1)


def test_a_flag_is_kept_as_a_word_and_a_blank_flag_says_nothing():
    _, parsed = read(MANY_HEADER + "1,2026-09-01,Y,,,,,,\n2,2026-09-01,0,,,,,,\n3,2026-09-01,,,,,,,\n", MANY)
    assert facts(parsed, "description", "own_id", "group_value") == [("1", "true"), ("2", "false")]


KINDS = made(
    columns={
        "group_id": {"headers": ["Group"], "required": True},
        "kind": {"headers": ["Kind"], "type": "code", "values": {"held": "held", "cancelled": "cancelled"}},
        "tutor_key": {"headers": ["Tutor"], "type": "person", "required": True, "where": {"kind": ["held"]}},
        "starts_at": {"headers": ["Start"], "type": "local_datetime", "required": True},
    },
    facts=[
        {
            "event": "SessionHeld",
            "when": {"kind": ["held"]},
            "columns": {"held_minutes": {"headers": ["Detail"], "type": "number"}},
        },
        {
            "event": "SessionCancelled",
            "when": {"kind": ["cancelled"]},
            "columns": {"cancel_reason": {"headers": ["Detail"], "type": "code", "values": {"snow": "weather"}}},
        },
    ],
)


def test_a_slot_that_is_not_meant_is_empty_whatever_its_cells_say():
    text = "g1,held,T1,2026-09-01 08:00,30\ng1,cancelled,T1,2026-09-02 08:00,snow\ng1,held,T1,2026-09-03,snow\n"
    _, parsed = read("Group,Kind,Tutor,Start,Detail\n" + text, KINDS)
    kept = ("event_type", "starts_at", "held_minutes", "cancel_reason", "tutor_key")
    assert facts(parsed, "session", *kept) == [
        ("SessionHeld", "2026-09-01T08:00:00", 30.0, None, "T1"),
        ("SessionCancelled", "2026-09-02T08:00:00", None, "weather", None),
    ]
    assert rejections(parsed) == [(4, 0, "Detail", "not_a_number")]
    assert (parsed.facts_empty, parsed.facts_rejected) == (3, 1)


def test_a_column_read_only_in_some_rows_is_required_only_there():
    text = "g1,held,,2026-09-01 08:00,30\ng1,cancelled,,2026-09-02 08:00,snow\n"
    _, parsed = read("Group,Kind,Tutor,Start,Detail\n" + text, KINDS)
    assert outcomes(parsed) == ["rejected", "parsed"]
    assert rejections(parsed) == [(2, None, "Tutor", "missing_value")]


def test_a_fact_of_a_group_means_no_student():
    text = "g1,held,T1,2026-09-01 08:00,30\n"
    _, parsed = read("Group,Kind,Tutor,Start,Detail\n" + text, KINDS)
    assert facts(parsed, "session", "own_id_type", "own_id") == [(None, None)]


def test_one_test_id_for_two_students_loads_and_is_counted():
    layout = made(
        columns={
            **{name: COLUMNS[name] for name in ("student_id", "occurred_on", "score")},
            "vendor_test_id": {"headers": ["Test"]},
            "window_label": {"headers": ["Window"]},
        },
        people=["student_id"],
        facts=[{"event": "ScreenerScored"}],
    )
    text = "1,2026-09-01,5,T1,fall\n2,2026-09-01,6,T1,winter\n1,2026-11-16,7,T2,fall\n1,2026-09-01,7,T2,outside\n"
    _, parsed = read("ID,Date,Score,Test,Window\n" + text, layout)
    assert outcomes(parsed) == ["parsed"] * 4
    assert parsed.findings.rows() == [("label_date_disagree", 2), ("shared_test_id", 2)]


def test_strands_keep_their_order_and_leave_out_the_empty_ones():
    layout = made(
        columns={name: COLUMNS[name] for name in ("student_id", "occurred_on", "score")},
        people=["student_id"],
        strands=[
            {"strand": "number", "score": "N", "label": "N Level"},
            {"name": "Goal", "score": "G", "standard_error": "G SE"},
        ],
        facts=[{"event": "ScreenerScored"}],
    )
    header = "ID,Date,Score,N,N Level,Goal,G,G SE\n"
    text = "1,2026-09-01,5,10,Low,Algebra,20,1.5\n2,2026-09-01,5,,,Algebra,,\n"
    text += "3,2026-09-01,5,,High,Algebra,,\n4,2026-09-01,5,x,,,,\n"
    _, parsed = read(header + text, layout)
    assert [strands for (strands,) in facts(parsed, "screening", "strands")] == [
        [
            {"strand": "number", "score": 10.0, "standard_error": None, "label": "Low"},
            {"strand": "Algebra", "score": 20.0, "standard_error": 1.5, "label": None},
        ],
        None,
        [{"strand": "number", "score": None, "standard_error": None, "label": "High"}],
    ]
    assert rejections(parsed) == [(5, None, "N", "not_a_number")]


def test_a_note_leaves_its_length_and_goes_to_the_notes():
    layout = made(
        columns={
            **{name: COLUMNS[name] for name in ("student_id", "occurred_on")},
            "note": {"headers": ["What was said"], "type": "note"},
            "tutor_key": {"headers": ["Tutor"], "type": "person", "id_type": "tutor"},
        },
        people=["student_id"],
        facts=[{"event": "EvidenceNoted", "constants": {"evidence_kind": "quote"}}],
    )
    _, parsed = read('ID,Date,What was said,Tutor\n1,2026-09-01,"half, I think",T-9\n2,2026-09-01,,\n', layout)
    assert facts(parsed, "session", "note_chars", "tutor_key") == [(13, "T-9"), (None, None)]
    assert parsed.notes.rows() == [(2, 0, "half, I think")]
    assert parsed.persons == {"tutor_key": "tutor"}


def test_vault_columns_and_ids_never_become_facts():
    layout = made(
        columns={
            **COLUMNS,
            "test_name": {"headers": ["Name"], "vault": True},
            "form": {"headers": ["Username"], "type": "id", "id_type": "username"},
        },
        people=["student_id"],
        facts=[{"event": "ScreenerScored"}],
    )
    _, parsed = read("ID,Date,Score,Name,Username,Subject\n1,2026-09-01,5,Student 1,s1,Math\n", layout)
    assert facts(parsed, "screening", "test_name", "form") == [(None, None)]
    assert parsed.vault_rows.select("own_id", "test_name").rows() == [("1", "Student 1")]
    assert parsed.identifiers["id"].to_list() == ["1", "s1"]


def test_only_the_positions_a_layout_reads_are_wanted():
    binding, _ = read("Other,ID,More,Date,Score,Subject\nx,1,x,2026-09-01,5,Math\n", ONE)
    assert wanted(binding) == {1, 3, 4, 5}


def test_what_a_vendor_recomputes_is_not_hashed():
    columns_ = {**COLUMNS, "percentile": COLUMNS["percentile"] | {"hashed": False}}
    binding, _ = read(ONE_HEADER, ONE.model_copy(update={"columns": made(columns=columns_).columns}))
    assert unhashed(binding.layout) == {"percentile"}


def test_a_file_without_rows_has_empty_tables_of_the_same_shape():
    _, none = read(ONE_HEADER, ONE)
    _, some = read(ONE_HEADER + "1,,Math,2026-09-01,,5,\n", ONE)
    assert none.facts["screening"].schema == some.facts["screening"].schema
    assert (none.identifiers.schema, none.rejected.schema) == (some.identifiers.schema, some.rejected.schema)
    assert none.outcomes.schema == some.outcomes.schema


def test_excel_serials_are_days_in_a_workbook_alone():
    layout = made(
        columns={name: COLUMNS[name] for name in ("student_id", "occurred_on")},
        people=["student_id"],
        facts=[{"event": "ScreenerScored"}],
    )
    _, sheet = read("ID,Date\n1,46266\n", layout, name="list.xlsx")
    assert facts(sheet, "screening", "occurred_on") == [(date(2026, 9, 1),)]
    assert rejections(read("ID,Date\n1,46266\n", layout)[1]) == [(2, None, "Date", "not_a_date")]


# Everything adds up, whatever stands in the cells

CELLS = ("", "1", "0", "x", "Math", "Science", "2026-09-01", "9/1/2026", "1900-01-01", "2027", "50", "101", "N/A*", "Y")


@examples(60)
@given(
    cells=st.lists(st.lists(st.sampled_from(CELLS), min_size=9, max_size=9), max_size=6),
    wide=st.booleans(),
)
def test_rows_and_facts_add_up_whatever_stands_in_the_cells(cells: list[list[str]], wide: bool):
    layout, header, width = (MANY, MANY_HEADER, 9) if wide else (ONE, ONE_HEADER, 7)
    lines = [["7", *row[1:width]] for row in cells]
    _, parsed = read(header + "".join(",".join(line) + "\n" for line in lines), layout)
    assert_adds_up(parsed, len(lines))


@examples(30)
@given(data=st.data())
@pytest.mark.parametrize("layout_id", ["nwea_map_assessment_results", "oneroster_enrollments", "fastbridge_amath"])
def test_damaged_samples_add_up(layout_id: str, data: st.DataObject):
    rows = list(csv.reader(io.StringIO((EXPORTS / f"{layout_id}.csv").read_text("utf-8-sig"))))
    for _ in range(data.draw(st.integers(1, 8))):
        line = data.draw(st.integers(1, len(rows) - 1))
        at = data.draw(st.integers(1, len(rows[0]) - 1))
        rows[line][at] = data.draw(st.sampled_from(CELLS))
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    _, parsed = read(text.getvalue(), layouts()[layout_id])
    assert_adds_up(parsed, len(rows) - 1)


# NWEA

MAP = "nwea_map_assessment_results"


def test_a_map_test_is_read_with_its_strands():
    first = sample(MAP).facts["screening"].row(0, named=True)
    assert {name: value for name, value in first.items() if value is not None} == {
        "source_line": 2,
        "slot": 0,
        "event_type": "ScreenerScored",
        "own_id_type": "local",
        "own_id": "10001",
        "school_id": "Aspen Elementary",
        "school_year": "2027",
        "occurred_on": date(2026, 9, 1),
        "test_family": "nwea_map",
        "measure": "map_growth_math",
        "test_name": "Growth: Math 2-5 CO 2020",
        "form": "Growth: Math 2-5 CO 2020",
        "vendor_test_id": "70000001",
        "window_label": "fall",
        "started_at": "08:54:50",
        "score": 191.0,
        "standard_error": 3.1,
        "standard_error_unit": "score",
        "percentile": 31.0,
        "norm_version": "2025",
        "placement": "LoAvg",
        "is_growth_measure": True,
        "rapid_guessing_percent": 0.0,
        "duration_minutes": 41.0,
        "strands": [
            {"strand": "Operations, Algebraic Thinking", "score": 188.0, "standard_error": 6.1, "label": "Low"},
            {"strand": "Number and Operations", "score": 192.0, "standard_error": 6.0, "label": "LoAvg"},
        ],
    }


def test_map_screening_is_another_measure_without_strands():
    tests = sample(MAP).facts["screening"].filter(pl.col("source_line") == 4)
    assert tests.select("measure", "vendor_test_id", "is_growth_measure", "percentile", "strands").rows() == [
        ("map_screening_math", None, False, None, None)
    ]


def test_a_map_file_saved_again_by_excel_reads_the_same():
    tests = sample(MAP).facts["screening"].filter(pl.col("source_line") == 3)
    assert tests.select("occurred_on", "started_at", "placement").rows() == [(date(2026, 9, 2), "09:00:00", None)]


def test_a_map_checklist_is_no_test_and_a_summer_term_is_outside():
    parsed = sample(MAP)
    assert 8 not in parsed.facts["screening"]["source_line"].to_list()
    text = (EXPORTS / f"{MAP}.csv").read_text().replace("Fall 2026-2027", "Summer 2026-2027", 1)
    assert facts(read(text)[1], "screening", "window_label", "school_year")[0] == ("outside", "2027")


def test_a_science_row_with_a_bad_score_is_out_of_scope():
    assert outcomes(sample(MAP))[3] == "out_of_scope"
    assert 5 not in sample(MAP).rejected["source_line"].to_list()


def test_map_findings_are_counted():
    assert sample(MAP).findings.rows() == [("label_date_disagree", 1), ("shared_test_id", 2)]


def test_the_real_map_file_holds_three_tests_and_four_rows_of_other_subjects():
    _, parsed = read(real("nwea_map_growth/MAP_Growth_sample_anonymized_file.csv"))
    assert [outcomes(parsed).count(name) for name in ("parsed", "out_of_scope", "rejected")] == [3, 4, 0]
    assert (
        facts(parsed, "screening", "score", "standard_error", "percentile", "school_year")
        == [(233.0, 3.3, 32.0, "2022")] * 3
    )
    assert [len(strands) for (strands,) in facts(parsed, "screening", "strands")] == [4, 4, 4]
    assert parsed.findings.rows() == [("shared_test_id", 3)]


def test_an_old_map_file_says_discipline_and_has_no_start_time():
    layout = "TermName,StudentID,SchoolName,MeasurementScale,Discipline,GrowthMeasureYN,TestType,TestName,TestStartDate"
    header = layout + ",TestDurationInMinutes,TestRITScore,TestStandardError,TestPercentile,RITtoReadingScore\n"
    text = "Fall 2011,7,Aspen,Mathematics,Mathematics,TRUE,Survey With Goals,MAP: Math 2-5,09/01/2011,40,190,3,30,\n"
    binding, parsed = read(header + text)
    assert binding.layout.id == MAP
    assert facts(parsed, "screening", "school_year", "measure", "score") == [("2012", "map_growth_math", 190.0)]
    assert binding.new == ()


def test_the_combo_file_brings_grades_to_the_log_and_names_to_the_vault():
    parsed = sample("nwea_map_combo")
    assert facts(parsed, "screening", "grade", "vendor_test_id", "is_growth_measure") == [
        ("3", None, None),
        ("K", None, None),
        ("3", None, None),
    ]
    assert parsed.vault_rows.select("own_id", "family_name", "given_name", "teacher").row(0) == (
        "10001",
        "Student 1",
        "Example 1",
        "Teacher 5",
    )


def test_students_by_school_describe_grades_for_the_year_of_the_term():
    kept = ("own_id", "school_id", "school_year", "group_kind", "group_value")
    assert facts(sample("nwea_map_students"), "description", *kept) == [
        ("10001", "Aspen Elementary", "2027", "grade", "4"),
        ("10001", "Birch Elementary", "2027", "grade", "4"),
        ("10002", "Aspen Elementary", "2027", "grade", "PK"),
    ]


def test_a_map_class_is_a_person_to_the_log_because_its_name_may_be_one():
    parsed = sample("nwea_map_class_assignments", vocabulary=("math", "homeroom"))
    assert parsed.persons == {"class_id": "class"}
    assert facts(parsed, "roster", "own_id", "class_id", "title_terms", "course_title") == [
        ("10001", "Aspen Elementary / 2027 / Math 4 (Teacher 5)", "math", None),
        ("10002", "Aspen Elementary / 2027 / Math 4 (Teacher 5)", "math", None),
        ("10001", "Aspen Elementary / 2027 / Math 4 (Teacher 5)", "math", None),
        ("10001", "Birch Elementary / 2027 / Homeroom 4", "homeroom", None),
    ]
    assert parsed.vault_rows.select("class_title", "teacher").row(0) == ("Math 4 (Teacher 5)", "Teacher 5")


# OneRoster


def test_only_students_are_enrolled_and_an_end_is_a_fact_of_its_own():
    parsed = sample("oneroster_enrollments")
    kept = ("event_type", "own_id", "class_id", "occurred_on", "begin_on", "end_on", "is_deleted")
    assert facts(parsed, "roster", *kept) == [
        ("StudentEnrolled", "u-1", "k-1", date(2026, 8, 17), date(2026, 8, 17), None, False),
        ("EnrollmentEnded", "u-1", "k-1", date(2027, 6, 4), date(2026, 8, 17), date(2027, 6, 4), False),
        ("StudentEnrolled", "u-2", "k-1", date(2026, 9, 14), date(2026, 9, 14), None, False),
        ("StudentEnrolled", "u-1", "k-2", None, None, None, True),
    ]


def test_a_teacher_with_a_students_id_stays_a_teacher():
    enrolled = sample("oneroster_enrollments")
    assert enrolled.vault_rows.rows() == [(5, None, None, "k-1", "u-1")]
    assert 5 not in enrolled.identifiers["source_line"].to_list()
    users = sample("oneroster_users_1p1")
    teacher = users.vault_rows.filter(pl.col("source_line") == 5)
    assert teacher.select("own_id", "teacher", "family_name").rows() == [(None, "u-1", "Teacher 5")]
    assert 5 not in users.identifiers["source_line"].to_list()


def test_parents_names_go_nowhere():
    users = sample("oneroster_users_1p1")
    assert outcomes(users)[4] == "parsed"
    assert 6 not in users.vault_rows["source_line"].to_list()
    assert 6 not in users.identifiers["source_line"].to_list()


def test_every_id_of_a_student_is_known_also_those_in_pairs():
    ids = sample("oneroster_users_1p1").identifiers.filter(pl.col("source_line") == 2)
    assert ids.select("column", "id_type", "id").rows() == [
        ("identifier", "local", "10001"),
        ("sourcedId", "sis", "u-1"),
        ("userIds", "user_id:ldap", "11"),
        ("userIds", "user_id:state", "900001"),
        ("username", "username", "student1"),
    ]


def test_of_several_grades_the_first_is_described_and_of_several_schools_none():
    grades = sample("oneroster_users_1p1").facts["description"].filter(pl.col("group_kind") == "grade")
    assert grades.select("own_id", "group_value", "school_id").rows() == [("u-1", "4", "org-1"), ("u-2", "K", None)]


def test_only_students_are_listed_by_a_roster():
    listed = sample("oneroster_users_1p1").facts["description"].filter(pl.col("group_kind") == "roster")
    assert listed["own_id"].to_list() == ["u-1", "u-2", "u-3", "u-9"]


def test_flags_that_are_true_are_one_value_and_an_unreadable_one_rejects_its_row():
    parsed = sample("oneroster_demographics")
    assert rejections(parsed) == [(4, None, "asian", "unknown_code")]
    described = parsed.facts["description"]
    assert set(described["own_id"]) == {"u-1"}
    assert sorted(described["group_value"]) == ["asian", "female"]


def test_class_titles_stay_in_the_vault_and_leave_listed_words():
    parsed = sample("oneroster_classes", vocabulary=("math", "intervention"))
    kept = ("class_id", "title_terms", "term_ids", "grades", "class_type")
    assert facts(parsed, "roster", *kept) == [
        ("k-1", "intervention;math", "q1-27;q2-27", "4", "scheduled"),
        ("k-2", None, "ay-27", "1;K", "homeroom"),
    ]
    assert "Teacher 5" not in str(parsed.facts["roster"].rows())
    assert parsed.vault_rows.select("class_id", "class_title", "class_code").row(0) == (
        "k-1",
        "Math 4 Intervention - Teacher 5",
        "M4-1",
    )


def test_a_deleted_record_says_so_and_a_blank_status_is_active():
    assert facts(sample("oneroster_orgs"), "roster", "school_id", "is_deleted") == [
        ("org-d", False),
        ("org-1", False),
        ("org-2", True),
    ]
    assert [deleted for (deleted,) in facts(sample("oneroster_academic_sessions"), "roster", "is_deleted")] == [
        False
    ] * 3


def test_a_primary_role_names_a_students_school_and_its_end_may_lie_years_ahead():
    schools = sample("oneroster_roles").facts["description"].filter(pl.col("group_kind") == "primary_school")
    assert schools.select("own_id", "group_value", "valid_from", "valid_to").rows() == [
        ("u-1", "org-1", date(2026, 8, 17), date(2028, 6, 1))
    ]


def test_a_real_oneroster_folder_enrols_its_students():
    data = real("oneroster_csv/moodle_enrol_oneroster/Test_full_data_set.zip")
    with zipfile.ZipFile(io.BytesIO(data)) as folder:
        name = next(name for name in folder.namelist() if name.endswith("enrollments.csv"))
        rows = list(csv.DictReader(io.StringIO(folder.read(name).decode("utf-8-sig"))))
        _, parsed = read(folder.read(name), name=name)
    students = [row["userSourcedId"] for row in rows if row["role"] == "student"]
    enrolled = parsed.facts["roster"].filter(pl.col("event_type") == "StudentEnrolled")
    assert enrolled["own_id"].to_list() == students
    assert len(students) < len(rows) == len(outcomes(parsed))
