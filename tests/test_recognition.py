"""Headers: which layout one is, its drift, and what a person is told of it."""

import io
import zipfile

import pytest

from schemas.exports import Layout, layouts
from tests.parsing import EXPORTS, held, made, read, real
from transforms.recognition import Held, Recognised, recognise

MAP = "nwea_map_assessment_results"
HEADER = (EXPORTS / f"{MAP}.csv").read_text("utf-8").splitlines()[0].split(",")
PLAIN = made(
    also=["Note", "re:^Custom "],
    absent=["Lexile"],
    columns={
        "student_id": {"headers": ["Student ID", "StudentID"], "type": "id", "id_type": "local", "required": True},
        "occurred_on": {"headers": ["Completion Date"], "type": "date", "header_required": True},
        "score": {"headers": ["Overall Scale Score"], "type": "number", "required": True},
        "percentile": {"headers": ["Percentile"], "type": "percentile"},
    },
    people=["student_id"],
    facts=[{"event": "ScreenerScored"}],
)
PLAIN_HEADER = ["Student ID", "Completion Date", "Overall Scale Score", "Percentile", "Note"]


def bound(header: list[str], *known: Layout, name: str = "export.csv", aliases: dict = {}):  # noqa: B006
    found = recognise(header, name, {each.id: each for each in known} or layouts(), aliases)
    assert isinstance(found, Recognised), found
    return found.binding


def changed(header: list[str], old: str, new: str) -> list[str]:
    return [new if name == old else name for name in header]


@pytest.mark.parametrize("path", sorted(EXPORTS.glob("nwea*.csv")) + sorted(EXPORTS.glob("oneroster*.csv")))
def test_the_header_of_a_sample_is_its_layout_whatever_the_file_is_called(path):
    binding, _ = read(path.read_bytes(), name="export (3).csv")
    assert binding.layout.id == path.stem
    assert binding.new == ()


def test_the_real_map_file_is_known_to_its_last_column():
    binding, _ = read(real("nwea_map_growth/MAP_Growth_sample_anonymized_file.csv"))
    assert binding.layout.id == MAP
    assert (binding.renamed, binding.new, binding.missing) == ((), (), ())


ONEROSTER = {
    "Test_full_data_set.zip": {"users": "oneroster_users_1p1"},
    "oneroster_test_data.zip": {"users": "oneroster_users_1p2"},
    "v1p2_full_dataset.zip": {"users": "oneroster_users_1p2", "userprofiles": "oneroster_roles"},
}
FILES = {
    "academicSessions": "oneroster_academic_sessions",
    "classes": "oneroster_classes",
    "courses": "oneroster_courses",
    "demographics": "oneroster_demographics",
    "enrollments": "oneroster_enrollments",
    "manifest": "oneroster_manifest",
    "orgs": "oneroster_orgs",
    "roles": "oneroster_roles",
    "userProfiles": "oneroster_user_profiles",
}


@pytest.mark.parametrize("archive", ONEROSTER)
def test_real_oneroster_folders_are_recognised_with_their_misspelt_and_empty_headers(archive: str):
    data = real(f"oneroster_csv/moodle_enrol_oneroster/{archive}")
    expected = FILES | ONEROSTER[archive]
    with zipfile.ZipFile(io.BytesIO(data)) as folder:
        members = [name for name in folder.namelist() if name.endswith(".csv")]
        found = {name: read(folder.read(name), name=name)[0] for name in members}
    assert {name: binding.layout.id for name, binding in found.items()} == {
        name: expected[name.rsplit("/", 1)[-1].removesuffix(".csv")] for name in members
    }
    assert {header for binding in found.values() for header in binding.new} == set()


# The four kinds of drift


def test_a_known_alias_loads_and_says_so():
    binding = bound(changed(HEADER, "Subject", "Discipline"))
    assert binding.renamed == (("Subject", "Discipline"),)
    assert HEADER[binding.positions["subject"]] == "Subject"


def test_a_header_in_another_case_counts_as_renamed():
    assert bound(changed(PLAIN_HEADER, "Percentile", "PERCENTILE"), PLAIN).renamed == (("Percentile", "PERCENTILE"),)


def test_exact_case_goes_before_an_alias_in_another_case():
    binding = bound(["studentid", *PLAIN_HEADER], PLAIN)
    assert binding.positions["student_id"] == 1
    assert binding.new == ("studentid",)


def test_a_districts_own_alias_loads():
    header = changed(PLAIN_HEADER, "Overall Scale Score", "Scale")
    binding = bound(header, PLAIN, aliases={"made": {"score": ["Scale"]}})
    assert binding.renamed == (("Overall Scale Score", "Scale"),)
    assert binding.new == ()


@pytest.mark.parametrize("new", ["Overall Scale Scr", "Overall_Scale_Score", "Scale Score Overall Math"])
def test_an_unknown_rename_is_held_with_the_header_it_probably_is(new: str):
    found = held(",".join(changed(PLAIN_HEADER, "Overall Scale Score", new)), PLAIN)
    assert found.rule == "renamed_column"
    assert found.nearest == "made"
    assert found.missing == ("Overall Scale Score",)
    assert found.likely == (("Overall Scale Score", new),)
    assert f'It is probably "{new}" now.' in found.message
    assert "made.score in the district's aliases" in found.message


def test_a_renamed_column_that_also_moved_is_found_by_its_name():
    header = [*(name for name in PLAIN_HEADER if name != "Overall Scale Score"), "Shoe Size", "Overall Scale Scr"]
    assert held(",".join(header), PLAIN).likely == (("Overall Scale Score", "Overall Scale Scr"),)


def test_an_unlike_header_in_the_place_of_a_missing_one_is_the_likely_rename():
    found = held(",".join(changed(PLAIN_HEADER, "Completion Date", "Finished")), PLAIN)
    assert found.likely == (("Completion Date", "Finished"),)


def test_a_missing_column_is_held_with_what_it_holds():
    found = held(",".join(name for name in HEADER if name != "TestRITScore"))
    assert (found.rule, found.nearest, found.missing, found.likely) == ("missing_column", MAP, ("TestRITScore",), ())
    assert 'the file has no column "TestRITScore", which holds score.' in found.message


def test_a_missing_column_we_can_do_without_loads_and_is_listed():
    binding = bound([name for name in PLAIN_HEADER if name != "Percentile"], PLAIN)
    assert binding.missing == ("Percentile",)
    assert "percentile" not in binding.positions


def test_new_columns_load_and_are_listed():
    assert bound([*HEADER[:5], "Homeless Youth", *HEADER[5:]]).new == ("Homeless Youth",)


def test_headers_a_vendor_has_and_we_do_not_read_are_not_new():
    assert bound([*PLAIN_HEADER, "Custom 1", ""], PLAIN).new == ()


def test_reordered_columns_give_the_same_facts():
    lines = ["Student ID,Completion Date,Overall Scale Score,Percentile,Note", "7,2026-09-01,450,30,x"]
    turned = [",".join(reversed(line.split(","))) for line in lines]
    facts = [read("\n".join(each), PLAIN)[1].facts["screening"] for each in (lines, turned)]
    assert facts[0].height == 1
    assert facts[0].equals(facts[1])


# What is not known


def test_an_unknown_header_names_the_nearest_layout():
    found = held("Student ID,First,Last,Shoe Size", PLAIN)
    assert (found.rule, found.nearest) == ("unknown_layout", "made")
    assert '"Completion Date", "Overall Scale Score"' in found.message


def test_a_header_without_a_single_known_name_has_no_nearest_layout():
    found = held("a,b,c", PLAIN)
    assert (found.rule, found.nearest) == ("unknown_layout", None)


def test_a_header_another_layout_forbids_is_another_export():
    found = held(",".join([*PLAIN_HEADER, "Lexile"]), PLAIN)
    assert (found.rule, found.nearest) == ("unknown_layout", "made")
    assert '"Lexile"' in found.message


def test_of_two_layouts_that_match_the_one_that_knows_more_headers_wins():
    wider = PLAIN.model_copy(update={"id": "wider", "also": ("Note", "Rush Flag")})
    assert bound([*PLAIN_HEADER, "Rush Flag"], PLAIN, wider).layout.id == "wider"


def test_file_names_break_a_tie_and_only_a_tie():
    math = PLAIN.model_copy(update={"id": "math", "file_names": ("_math",)})
    reading = PLAIN.model_copy(update={"id": "reading", "file_names": ("_ela",)})
    assert bound(PLAIN_HEADER, math, reading, name="results_MATH.csv").layout.id == "math"
    assert bound(PLAIN_HEADER, math, reading, name="results_ela.csv").layout.id == "reading"
    wider = math.model_copy(update={"id": "wider", "file_names": (), "also": ("Note", "Rush Flag")})
    assert bound([*PLAIN_HEADER, "Rush Flag"], reading, wider, name="results_ela.csv").layout.id == "wider"


def test_a_real_tie_is_held():
    twin = PLAIN.model_copy(update={"id": "twin"})
    found = recognise(PLAIN_HEADER, "results.csv", {"made": PLAIN, "twin": twin})
    assert isinstance(found, Held)
    assert found.rule == "ambiguous_layout"
    assert '"made", "twin"' in found.message


def test_the_scope_column_must_be_there():
    layout = PLAIN.model_copy(update={"scope": PLAIN.model_validate(SCOPED).scope, "columns": SCOPED_COLUMNS})
    found = held(",".join(PLAIN_HEADER), layout)
    assert found.missing == ("Subject",)


SCOPED = PLAIN.model_dump() | {
    "columns": PLAIN.model_dump()["columns"] | {"subject": {"headers": ["Subject"]}},
    "scope": {"column": "subject", "values": ["math"]},
}
SCOPED_COLUMNS = Layout.model_validate(SCOPED).columns


# Names from files nobody has checked


def test_header_names_in_messages_are_short_and_on_one_line():
    nasty = "Overall Scale Score\x1b[31m\r\n\u202e" + "x" * 500
    found = held(",".join(changed(PLAIN_HEADER, "Overall Scale Score", nasty)), PLAIN)
    binding = bound([*PLAIN_HEADER, nasty], PLAIN)
    for text in (found.message, *found.missing, *[name for pair in found.likely for name in pair], *binding.new):
        assert text.isprintable()
    assert max(len(name) for name in (*binding.new, *binding.header)) == 80
    assert "x" * 80 not in found.message


def test_headers_alike_in_their_first_80_characters_are_different():
    start = "Did the student meet the standard of " + "a very long description " * 3
    layout = made(columns={"score": {"headers": [f"{start}B"], "required": True}}, facts=[{"event": "ScreenerScored"}])
    assert bound([f"{start}A", f"{start}B"], layout).positions["score"] == 1


def test_inner_blanks_and_a_byte_order_mark_do_not_matter():
    assert bound(["\ufeffStudent  ID ", "Completion\tDate", *PLAIN_HEADER[2:]], PLAIN).renamed == ()


def test_a_repeated_header_is_read_where_it_stands_first():
    binding = bound([*PLAIN_HEADER, "Percentile"], PLAIN)
    assert binding.positions["percentile"] == 3
    assert binding.repeated == ("Percentile",)
    assert binding.new == ()


# Blocks

WIDE = made(
    columns={"student_id": {"headers": ["ID"], "type": "id", "id_type": "local", "required": True}},
    people=["student_id"],
    also=["Growth"],
    blocks=[
        {
            "event": "ScreenerScored",
            "opens": "^(?P<season>.+) Score$",
            "columns": {
                "season_slot": {"capture": "season"},
                "score": {"position": True, "type": "number"},
                "percentile": {"pattern": "Percentile$", "type": "percentile"},
                "occurred_on": {"headers": ["Date"], "type": "date", "required": True},
            },
        }
    ],
)


def test_blocks_take_their_columns_by_place_although_names_repeat():
    binding = bound(
        ["ID", "Fall MS Score", "Percentile", "Date", "Growth", "Spring Score", "Growth", "Date", "Percentile"], WIDE
    )
    assert [slot.captured["season_slot"] for slot in binding.slots] == ["Fall MS", "Spring"]
    assert [slot.positions for slot in binding.slots] == [
        {"score": 1, "percentile": 2, "occurred_on": 3},
        {"score": 5, "percentile": 8, "occurred_on": 7},
    ]
    assert binding.new == ()


def test_a_block_without_a_column_it_needs_is_held():
    found = held("ID,Fall Score,Date,Spring Score,Percentile", WIDE)
    assert found.rule == "missing_column"
    assert found.missing == ("Date (after Spring Score)",)


def test_a_wide_layout_needs_a_block():
    found = held("ID,Growth,Date", WIDE)
    assert found.rule == "missing_column"
    assert found.missing == (WIDE.blocks[0].opens,)
