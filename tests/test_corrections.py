"""Two keys that are one student, facts that are another's, events taken back: stated by command, on real stores."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from pipelines import cli
from pipelines.commands.options import DONE, WRONG_USE
from pipelines.corrections import NEW, merge, retract, split, unmerge
from pipelines.explain import FILES, KNOWN, Sections, explain
from pipelines.facts import current_facts
from pipelines.statements import NotPossible
from pipelines.verify import verify_home
from tests.homes import POLICY, Place, map_file, map_row, users_file
from tests.test_equality import ENROLMENTS, assert_same

WHY = "The office found the paper card."
CLASSES = (
    "sourcedId,status,dateLastModified,title,grades,courseSourcedId,classCode,classType,location,schoolSourcedId,"
    "termSourcedIds,subjects,subjectCodes,periods\n"
    "X,active,,,04,,,scheduled,,s1,,Mathematics,02034,1\n"
    "Y,active,,,04,,,scheduled,,s2,,Mathematics,02034,2\n"
)


def enrolled(*lines: tuple[str, str, str, str]) -> str:
    """(student, class, first day, last day)"""
    made = [
        f"e{number},active,,{class_id},s1,S{student},student,true,{begin},{end}"
        for number, (student, class_id, begin, end) in enumerate(lines)
    ]
    return "\n".join((ENROLMENTS, *made)) + "\n"


@pytest.fixture(scope="module")
def loaded_place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Three students of two classes; the tests of A were sent three times with two scores."""
    made = Place(tmp_path_factory.mktemp("corrections"), POLICY)
    made.load("2025-09-01/classes.csv", CLASSES)
    made.load("2025-09-01/users.csv", users_file("A", "B", "C"))
    made.load(
        "2025-09-01/enrollments.csv",
        enrolled(*((each, "X" if each != "C" else "Y", "2025-08-20", "") for each in "ABC")),
    )
    made.load("2025-09-20/map.csv", scores({"A": 186, "B": 184, "C": 201}, 1))
    made.load("2025-11-05/map.csv", scores({"A": 192, "B": 184, "C": 201}, 2))
    made.load("2025-11-12/map.csv", scores({"A": 192, "B": 184, "C": 201}, 3))
    made.refresh()
    return made


@pytest.fixture
def place(loaded_place: Place, tmp_path: Path) -> Place:
    return loaded_place.copy(tmp_path)


def scores(of: dict[str, int], number: int) -> str:
    """An export; a row of another subject makes its bytes its own."""
    rows = [map_row(student, score, percentile="") for student, score in of.items()]
    return map_file(*rows, map_row("A", 150 + number, subject="Science K-12", test=f"s{number}"))


def keys(place: Place) -> dict[str, str]:
    """The key each student is shown under, by the test each took."""
    tests = facts(place)["screening"]
    return dict(tests.select(pl.col("vendor_test_id").str.slice(1), "subject_key").rows())


def facts(place: Place) -> dict[str, pl.DataFrame]:
    return current_facts(place.log, [place.district], place.log.ledger_rows([place.district]))


def standing(place: Place) -> dict[str, tuple[str, float]]:
    """Whose test each is and what it says, by test."""
    names = {key: student for student, key in keys(place).items()}
    rows = facts(place)["screening"].select("vendor_test_id", "subject_key", "score").rows()
    return {test: (names[key], score) for test, key, score in rows}


def score_of(place: Place, student: str) -> list[float]:
    tests = facts(place)["screening"]
    return tests.filter(pl.col("vendor_test_id") == f"t{student}")["score"].to_list()


def event(place: Place, student: str, score: float) -> str:
    mine = place.events().filter(pl.col("vendor_test_id") == f"t{student}", pl.col("score") == score)
    return str(mine["event_id"].item())


def natural_key(place: Place, student: str) -> str:
    return str(place.events().filter(pl.col("vendor_test_id") == f"t{student}")["natural_key"][0])


def brought_up(place: Place) -> dict[str, pl.DataFrame]:
    place.refresh()
    return place.tables()


# One student or two


def test_a_merge_shows_one_student_with_the_tests_of_both_and_tells_what_cannot_be(place: Place):
    own = keys(place)
    told = merge(place.home, own["A"], own["C"], WHY, place.sources())
    assert told["shown_as"] == min(own["A"], own["C"])
    classes = next(each for each in told["conflicts"] if each["conflict"] == "in_two_classes")
    assert (classes["which"], classes["benchmark_window"]) == ("X; Y", "fall")
    tests = next(each for each in told["conflicts"] if each["conflict"] == "tests_in_one_window")
    assert set(tests["which"].split("; ")) == {natural_key(place, "A"), natural_key(place, "C")}
    place.refresh()
    members = place.table("class_membership").filter(benchmark_window="fall")
    assert members.filter("in_two_classes")["subject_key"].to_list() == [told["shown_as"]]
    assert members["subject_key"].n_unique() == members.height == 2
    assert place.table("tier_placement").filter(benchmark_window="fall")["subject_key"].n_unique() == 2
    assert place.table("screening_result")["subject_key"].n_unique() == 2


def test_taking_a_merge_back_undoes_it_to_the_byte(place: Place):
    own, before = keys(place), place.tables()
    merge(place.home, own["A"], own["C"], WHY, place.sources())
    assert not before["class_membership"].equals(brought_up(place)["class_membership"])
    told = unmerge(place.home, own["C"], own["A"], WHY, place.sources())
    assert told["shown_as"] == sorted([own["A"], own["C"]])
    assert_same(before, brought_up(place))


@pytest.mark.slow
def test_what_was_merged_and_taken_back_can_be_merged_again(place: Place):
    own = keys(place)
    merge(place.home, own["A"], own["C"], WHY, place.sources())
    merged = brought_up(place)
    unmerge(place.home, own["A"], own["C"], WHY, place.sources())
    merge(place.home, own["A"], own["C"], WHY, place.sources())
    assert_same(merged, brought_up(place))


@pytest.mark.slow
def test_a_cycle_of_merges_is_refused(place: Place):
    own = keys(place)
    merge(place.home, own["A"], own["B"], WHY, place.sources())
    merge(place.home, own["B"], own["C"], WHY, place.sources())
    with pytest.raises(NotPossible, match="one student already"):
        merge(place.home, own["A"], own["C"], WHY, place.sources())
    with pytest.raises(NotPossible, match=r"by other merges\. Take back one"):
        unmerge(place.home, own["A"], own["C"], WHY, place.sources())
    assert unmerge(place.home, own["B"], own["C"], WHY, place.sources())["is_one_still"] is False
    with pytest.raises(NotPossible, match="two students already"):
        unmerge(place.home, own["B"], own["C"], WHY, place.sources())


def test_students_of_two_districts_are_never_merged(place: Place):
    (place.home.policies / "d2.toml").write_text(POLICY)
    place.district = "d2"
    place.load("2025-09-20/map.csv", scores({"A": 186}, 9))
    there = keys(place)["A"]
    place.district = "d1"
    with pytest.raises(NotPossible, match="of d1 and d2"):
        merge(place.home, keys(place)["A"], there, WHY, place.sources())


def test_an_unknown_key_is_refused_and_nothing_is_written(place: Place):
    before = place.log.ledger_rows().height
    with pytest.raises(NotPossible, match="No event names nobody"):
        merge(place.home, keys(place)["A"], "nobody", WHY, place.sources())
    assert place.log.ledger_rows().height == before


# Facts that are another student's


def test_a_split_gives_the_named_facts_to_another_and_what_corrects_them_later_follows(place: Place):
    own = keys(place)
    told = split(place.home, own["A"], own["B"], [event(place, "A", 186)], WHY, place.sources())
    assert (told["facts"], told["to"]) == (1, own["B"])
    tests = facts(place)["screening"].filter(pl.col("subject_key") == own["B"])
    assert sorted(tests["score"]) == [184, 192]
    place.load("2025-11-19/map.csv", scores({"A": 195, "B": 184, "C": 201}, 4))
    tests = facts(place)["screening"].filter(pl.col("subject_key") == own["B"])
    assert sorted(tests["score"]) == [184, 195]


@pytest.mark.slow
def test_splitting_back_undoes_it_to_the_byte(place: Place):
    own, before = keys(place), place.tables()
    split(place.home, own["A"], own["B"], [event(place, "A", 186)], WHY, place.sources())
    assert not before["screening_result"].equals(brought_up(place)["screening_result"])
    split(place.home, own["B"], own["A"], [event(place, "A", 192)], WHY, place.sources())
    assert_same(before, brought_up(place))


@pytest.mark.slow
def test_facts_can_be_given_to_a_student_whom_no_file_names(place: Place):
    own = keys(place)
    told = split(place.home, own["A"], NEW, [natural_key(place, "A")], WHY, place.sources())
    assert told["to"] not in own.values()
    assert keys(place)["A"] == told["to"], "shown, though no roster lists the student"
    place.refresh()
    mine = place.table("screening_result").filter(subject_key=told["to"])
    assert mine["score"].to_list() == [192]


def test_facts_of_somebody_else_are_not_moved(place: Place):
    own = keys(place)
    with pytest.raises(NotPossible, match="1 of 1 facts are not shown under"):
        split(place.home, own["A"], own["B"], [event(place, "C", 201)], WHY, place.sources())
    merge(place.home, own["A"], own["B"], WHY, place.sources())
    with pytest.raises(NotPossible, match="are one student"):
        split(place.home, own["A"], own["B"], [event(place, "A", 186)], WHY, place.sources())


# Events that are taken back


def test_taking_a_correction_back_restores_the_score_before_it(place: Place):
    told = retract(place.home, event(place, "A", 192), "correction_was_wrong", sources=place.sources())
    assert (told["events"], told["versions_left"]) == (1, 1)
    assert score_of(place, "A") == [186]


@pytest.mark.slow
def test_exports_that_say_the_same_again_do_not_bring_it_back_and_a_new_score_stands(place: Place):
    retract(place.home, event(place, "A", 192), "correction_was_wrong", sources=place.sources())
    place.load("2025-11-19/map.csv", scores({"A": 192, "B": 184, "C": 201}, 4))
    assert score_of(place, "A") == [186]
    place.load("2025-11-26/map.csv", scores({"A": 193, "B": 184, "C": 201}, 5))
    assert score_of(place, "A") == [193]
    place.load("2025-12-03/map.csv", scores({"A": 192, "B": 184, "C": 201}, 6))
    assert score_of(place, "A") == [192], "192 after 193 is an event of its own"


def test_an_older_export_that_arrives_later_does_not_bring_it_back(place: Place):
    retract(place.home, event(place, "A", 192), "correction_was_wrong", sources=place.sources())
    place.load("2025-10-29/map.csv", scores({"A": 192, "B": 184, "C": 201}, 4))
    assert score_of(place, "A") == [186]


@pytest.mark.slow
def test_a_fact_named_by_its_natural_key_is_taken_back_whole_and_given_again(place: Place):
    before = brought_up(place)
    told = retract(place.home, natural_key(place, "A"), "wrong_student", note=WHY, sources=place.sources())
    assert (told["events"], told["versions_left"]) == (2, 0)
    assert score_of(place, "A") == []
    assert before["screening_result"].height == brought_up(place)["screening_result"].height + 1
    retract(place.home, natural_key(place, "A"), "other", undo=True, sources=place.sources())
    assert_same(before, brought_up(place))


@pytest.mark.slow
def test_an_enrolment_can_be_taken_back(place: Place):
    roster = place.events("roster")
    enrolment = roster.filter(pl.col("event_type") == "StudentEnrolled", pl.col("class_id") == "Y")["event_id"][0]
    retract(place.home, enrolment, "entered_in_error", sources=place.sources())
    place.refresh()
    assert place.table("class_membership").drop_nulls("class_id")["class_id"].unique().to_list() == ["X"]


@pytest.mark.parametrize(
    ("reference", "reason", "told"),
    [
        ("short", "other", "too short"),
        ("f" * 64, "other", "No event or fact"),
        ("", "because", "not a reason of the list"),
    ],
)
def test_what_cannot_be_taken_back_is_told(place: Place, reference: str, reason: str, told: str):
    with pytest.raises(NotPossible, match=told):
        retract(place.home, reference, reason, sources=place.sources())


def test_twice_taken_back_is_refused_and_so_is_giving_back_what_stands(place: Place):
    with pytest.raises(NotPossible, match="No retraction of it stands"):
        retract(place.home, event(place, "A", 192), "other", undo=True, sources=place.sources())
    retract(place.home, event(place, "A", 192)[:12], "other", sources=place.sources())
    with pytest.raises(NotPossible, match="retracted already"):
        retract(place.home, event(place, "A", 192), "other", sources=place.sources())


# From a decision to the line


def archived_line(place: Place, kept_as: str, line: int) -> list[str]:
    return (place.home.root / kept_as).read_text().splitlines()[line - 1].split(",")


def test_a_class_leads_to_the_archived_lines_after_a_correction_a_merge_and_a_retraction(place: Place):
    own = keys(place)
    merge(place.home, own["A"], own["C"], WHY, place.sources())
    retract(place.home, event(place, "A", 192), "correction_was_wrong", sources=place.sources())
    place.refresh()
    sections = explain(place.home, "class", "X")
    kept = dict(sections[FILES].select("file", "kept_as").rows())
    tests = sections["Chosen tests, every version"]
    shown = tests.select("file", "source_line", "score", "is_current", "is_retracted").rows()
    students = set()
    for file, line, score, _, _ in shown:
        cells = archived_line(place, kept[file], line)
        assert f"{score:g}" in cells
        students.add(cells[2])
    assert {(score, current) for _, _, score, current, taken in shown if taken} <= {(192, False)}
    assert {"B"} < students <= {"A", "B", "C"}
    known = explain(place.home, "student", own["A"])[KNOWN].filter(pl.col("score").is_in([186.0, 192.0]))
    assert known.select("score", pl.col("known_until").is_null()).rows() == [(186, False), (192, False), (186, True)]
    merged = explain(place.home, "student", own["C"])["Versions of tests"]
    assert set(merged["score"]) == {186, 192, 201}, "under either key the tests of both"
    shutil.rmtree(place.home.archive)
    again = explain(place.home, "class", "X")
    assert again[FILES]["kept_as"].null_count() == again[FILES].height
    assert again["Chosen tests, every version"].equals(tests), "retention takes the bytes, not the chain"


# What is kept of it


@pytest.mark.slow
def test_a_home_with_statements_agrees_with_itself(place: Place):
    own = keys(place)
    merge(place.home, own["A"], own["C"], WHY, place.sources())
    split(place.home, own["A"], NEW, [event(place, "A", 186)], WHY, place.sources())
    retract(place.home, event(place, "B", 184), "wrong_student", note=WHY, sources=place.sources())
    (place.home.vault / "secret").write_text(place.sources().secret.hex())
    (place.home.vault / "secret").chmod(0o600)
    place.refresh()
    assert [each for each in verify_home(place.home, [place.district]) if not each["is_passed"]] == []
    assert place.log.ledger_rows()["layout"].to_list().count("statement") == 3


def test_what_is_typed_stands_in_the_notes_alone(place: Place):
    own = keys(place)
    merge(place.home, own["A"], own["C"], WHY, place.sources())
    unmerge(place.home, own["A"], own["C"], WHY, place.sources())
    retract(place.home, event(place, "B", 184), "wrong_student", note=WHY, sources=place.sources())
    place.refresh()
    assert place.log.notes.scan().collect()["text"].to_list() == [WHY] * 3
    root = place.home.root
    holding = {
        path.relative_to(root).parts[0]
        for path in root.rglob("*")
        if path.is_file() and WHY.encode() in path.read_bytes()
    }
    assert holding <= {"notes"}
    for table in (*place.log.families.values(), place.log.ledger):
        assert WHY not in str(table.scan().collect().to_dicts())


def test_the_commands_state_and_refuse(place: Place):
    own = keys(place)
    (place.home.vault / "secret").write_text(place.sources().secret.hex())
    (place.home.vault / "secret").chmod(0o600)

    def tierline(*arguments: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(cli.app, [*arguments, "--home", str(place.home.root)])
        return result.exit_code, result.stdout, result.stderr

    code, out, _ = tierline("student", "merge", own["A"], own["C"], "--reason", WHY, "--json")
    assert code == DONE
    assert json.loads(out)["shown_as"] == min(own["A"], own["C"])
    assert WHY not in out
    code, _, error = tierline("student", "merge", own["A"], own["C"], "--reason", WHY)
    assert (code, "one student already" in error) == (WRONG_USE, True)
    assert tierline("student", "unmerge", own["A"], own["C"], "--reason", WHY)[0] == DONE
    assert tierline("student", "split", own["A"], NEW, event(place, "A", 186), "--reason", WHY)[0] == DONE
    assert tierline("retract", event(place, "B", 184), "--reason", "wrong_student")[0] == DONE
    code, _, error = tierline("retract", event(place, "C", 201), "--reason", "a mistake")
    assert (code, "wrong_student" in error) == (WRONG_USE, True)


# What explain tells of it


def shown(place: Place, student: str) -> Sections:
    return explain(place.home, "student", keys(place)[student])


def test_what_was_known_when_follows_corrections_and_what_is_taken_back(place: Place):
    retract(place.home, event(place, "A", 192), "correction_was_wrong", sources=place.sources())
    retract(place.home, event(place, "A", 192), "other", undo=True, sources=place.sources())
    known = shown(place, "A")[KNOWN].sort("known_from")
    assert known.select("score", "state").rows() == [(score, "known") for score in (186, 192, 186, 192)]
    assert known["file"].to_list()[:3] == ["2025-09-20/map.csv", "2025-11-05/map.csv", "2025-09-20/map.csv"]
    assert known["known_until"].to_list() == [*known["known_from"].to_list()[1:], None]
    ledger = dict(place.log.ledger_rows().select("recorded_at", "file").rows())
    assert [ledger[each] for each in known["known_from"]] == [
        "2025-09-20/map.csv",
        "2025-11-05/map.csv",
        "tierline retract",
        "tierline retract --undo",
    ]


@pytest.mark.slow
def test_a_version_that_was_taken_back_is_marked_and_the_one_before_stands(place: Place):
    retract(place.home, event(place, "A", 192), "correction_was_wrong", sources=place.sources())
    versions = shown(place, "A")["Versions of tests"].sort("export_at")
    assert versions.select("score", "is_current", "is_retracted").rows() == [(186, True, False), (192, False, True)]
    assert set(versions["event_id"]) == {event(place, "A", 186), event(place, "A", 192)}
    records = shown(place, "A")["Other records"].filter(event_type="EventRetracted")
    assert records["reason"].to_list() == ["correction_was_wrong"]


def test_a_fact_with_no_version_left_was_known_until_then(place: Place):
    retract(place.home, natural_key(place, "A"), "wrong_student", sources=place.sources())
    key = place.events().filter(pl.col("vendor_test_id") == "tA")["subject_key"][0]
    known = explain(place.home, "student", key)[KNOWN].sort("known_from")
    assert known.select("score", "state").rows() == [(186, "known"), (192, "known"), (None, "retracted")]


@pytest.mark.slow
def test_explain_tells_who_is_one_student_and_moved_facts_with_their_new_student(place: Place):
    own = keys(place)
    merge(place.home, own["A"], own["C"], WHY, place.sources())
    unmerge(place.home, own["A"], own["C"], WHY, place.sources())
    split(place.home, own["A"], own["B"], [event(place, "A", 186)], WHY, place.sources())
    of_b, of_a = (explain(place.home, "student", own[each]) for each in "BA")
    assert sorted(of_b["Versions of tests"]["score"]) == [184, 186, 192]
    assert "Versions of tests" not in of_a
    stated = of_a["Who is one student"].filter(pl.col("file").str.starts_with("tierline"))
    assert stated["event_type"].to_list() == ["StudentMerged", "StudentMergeReversed", "StudentSplit"]
    assert stated["recorded_at"].is_sorted()
    assert WHY not in str(of_a) + str(of_b)


def test_the_flag_of_a_class_leads_to_when_its_tests_were_known(place: Place):
    place.refresh()
    sections = explain(place.home, "class", "X")
    known = sections[KNOWN].filter(benchmark_window="fall").sort("known_from", "score")
    assert known.select("score", "known_from").height == 3
    assert known["score"].to_list() == [184, 186, 192]
    assert set(known["test"]) == set(sections["Students"]["test"].drop_nulls())


# Students who move


@pytest.mark.slow
def test_a_student_who_moves_to_another_school_keeps_the_history(tmp_path: Path):
    place = Place(tmp_path, POLICY)
    place.load("2026-01-20/classes.csv", CLASSES)
    place.load("2026-01-20/users.csv", users_file("A"))
    moved = enrolled(("A", "X", "2025-08-20", "2025-11-28"), ("A", "Y", "2025-12-01", "")).replace("Y,s1", "Y,s2")
    place.load("2026-01-20/enrollments.csv", moved)
    winter = {"term": "Winter 2025-2026", "day": "01/12/2026", "test": "w"}
    place.load("2026-01-20/map.csv", map_file(map_row("A", 186), map_row("A", 190, **winter)))
    place.refresh()
    members = place.table("class_membership").sort("reference_on").drop_nulls("class_id")
    assert members.select("benchmark_window", "school_id", "class_id").rows() == [
        ("fall", "s1", "X"),
        ("winter", "s2", "Y"),
    ]
    assert members["subject_key"].n_unique() == 1
    assert not members["in_two_classes"].any()
    sections = explain(place.home, "student", members["subject_key"][0])
    assert sorted(sections["Tests"]["score"]) == [186, 190]
    assert sections["Placements"]["benchmark_window"].to_list() == ["fall", "winter"]
