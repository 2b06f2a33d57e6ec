"""A renamed export in September: the nearest layout, a proposal, the alias file, and what is never guessed or shown."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from pipelines import cli
from pipelines.aliases import AliasRefused, Asked, layouts_of, look_at, write_aliases
from pipelines.commands.options import DONE, NOTHING, WRONG_USE
from schemas.exports import layouts
from tests.homes import Place, map_file, map_row, users_file
from transforms.proposals import MOST_COLUMNS, likeness
from warehouse.home import Home

EXPORTS = Path(__file__).parent / "exports"
MAP = "nwea_map_assessment_results"
RENAMED = [
    ("nwea_map_assessment_results", "TestRITScore", "Test RIT Score", "score"),
    ("nwea_map_students", "StudentID", "Student ID Number", "student_id"),
    ("nwea_map_class_assignments", "StudentID", "Student_ID", "student_id"),
    ("iready_2026", "Overall Scale Score", "Overall Score (Scale)", "score"),
    ("iready_2022", "Completion Date", "Date of Completion", "occurred_on"),
    ("star_math", "CompletedDateLocal", "Completed Date (Local)", "occurred_on"),
    ("fastbridge_amath", "Local ID", "Student Local ID", "student_id"),
    ("fastbridge_progress", "AssessmentDate", "Assessment Day", "occurred_on"),
    ("oneroster_users_1p1", "enabledUser", "enabled_user", None),
    ("oneroster_enrollments", "classSourcedId", "class_sourced_ids", "class_id"),
    ("datas_students", "student_id", "StudentIdentifier", "student_id"),
    ("district_csv", "test_date", "Date of test", "occurred_on"),
    ("cycle_log_sessions", "starts_at", "Starts at (local)", "starts_at"),
]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def renamed(tmp_path: Path, name: str, changes: dict[str, str]) -> Path:
    """A sample with other words in its header."""
    header, rest = (EXPORTS / f"{name}.csv").read_text("utf-8-sig").split("\n", 1)
    for old, new in changes.items():
        assert old in header
        header = header.replace(old, new, 1)
    path = tmp_path / "export.csv"
    path.write_text(f"{header}\n{rest}", "utf-8")
    return path


def made(tmp_path: Path, header: str, *rows: str) -> Path:
    path = tmp_path / "export.csv"
    path.write_text("\n".join([header, *rows]) + "\n", "utf-8")
    return path


def told(home: Home, path: Path, asked: Asked = Asked()) -> dict:
    (found,) = layouts_of(home, path, asked)
    return found


def refused(home: Home, path: Path, asked: Asked = Asked()) -> str:
    """Why no alias file is written; nothing is."""
    with pytest.raises(AliasRefused) as raised:
        write_aliases(home, look_at(home, path, asked)[0])
    assert not (home.policies / "aliases").exists()
    return str(raised.value)


def tierline(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli.app, [str(each) for each in arguments])
    return result.exit_code, result.stdout, result.stderr


# What is proposed


@pytest.mark.parametrize(("layout", "old", "new", "column"), RENAMED, ids=[each[0] for each in RENAMED])
def test_a_renamed_column_of_every_family_is_proposed_written_and_read(home, tmp_path, layout, old, new, column):
    path = renamed(tmp_path, layout, {old: new})
    before = told(home, path)
    assert before["nearest"] == layout or before["layout"] == layout
    if column is None:  # a column nobody reads may be called anything
        assert before["layout"] == layout
        return
    assert before["layout"] is None
    assert {"expected": old, "found": new} in before["likely"]
    assert write_aliases(home, look_at(home, path, Asked())[0]) == [f"policy/aliases/{layout}.toml"]
    after = told(home, path)
    assert after["layout"] == layout
    assert {"expected": old, "found": new} in after["renamed"]
    assert after["trial"] == before["trial"]
    assert (home.policies / "aliases" / f"{layout}.toml").read_text("utf-8").endswith(before["alias_toml"])


def test_a_renamed_column_inside_a_block_is_proposed_for_each_season(home, tmp_path):
    header = (EXPORTS / "fastbridge_amath.csv").read_text("utf-8-sig").splitlines()[0]
    seasons = header.count("aMath Final Date")
    path = made(tmp_path, header.replace("aMath Final Date", "aMath Date (final)"))
    path.write_text(
        (EXPORTS / "fastbridge_amath.csv").read_text("utf-8-sig").replace("aMath Final Date", "aMath Date (final)"),
        "utf-8",
    )
    assert told(home, path)["alias_toml"].count("Date (final)") == seasons > 1
    write_aliases(home, look_at(home, path, Asked())[0])
    after = told(home, path)
    assert after["layout"] == "fastbridge_amath"
    assert after["trial"]["facts"] == told(home, EXPORTS / "fastbridge_amath.csv")["trial"]["facts"]


def test_a_column_that_a_file_can_do_without_is_proposed_too(home, tmp_path):
    found = told(home, renamed(tmp_path, MAP, {"Student_StateID": "Student State ID"}))
    assert found["layout"] == MAP
    assert found["likely"] == [{"expected": "Student_StateID", "found": "Student State ID"}]
    assert found["alias_toml"] == '[columns]\nstate_id = ["Student State ID"]\n'


def test_values_tell_two_like_headers_apart(home, tmp_path):
    rows = ["7,2026-09-02,ela,450,fall,2026-2027,e1,yes"]
    header = "student_id,test_date,measure,scores,window,school_year,school_id,score?"
    found = told(home, made(tmp_path, header, *rows), Asked(layout="district_csv"))
    (gap,) = [gap for gap in found["gaps"] if "score" in gap["columns"]]
    assert gap["chosen"] == "scores"


def test_one_header_that_is_read_as_two_things_is_one_alias_for_both(home, tmp_path):
    found = told(home, renamed(tmp_path, MAP, {"TermName": "Term Name"}))
    assert found["alias_toml"] == '[columns]\nschool_year = ["Term Name"]\nwindow_label = ["Term Name"]\n'


@pytest.mark.parametrize(
    ("ours", "theirs", "least", "most"),
    [
        ("TestRITScore", "test_rit_score", 1, 1),
        ("Overall Scale Score", "Scale Score (Overall)", 1, 1),
        ("role", "Current role", 0.7, 0.8),
        ("TestRITScore", "Shoe Size", 0, 0.5),
        ("", "x", 0, 0),
    ],
)
def test_likeness_of_names(ours, theirs, least, most):
    assert least <= likeness(ours, theirs) <= most


# What is asked, never guessed


def test_two_headers_that_are_as_like_are_asked(home, tmp_path):
    path = renamed(tmp_path, MAP, {"TestRITScore": "Test RIT Score A,Test RIT Score B"})
    text = path.read_text("utf-8").splitlines()
    at = text[0].split(",").index("Test RIT Score A")
    lines = [line.split(",") for line in text[1:]]
    path.write_text("\n".join([text[0], *(",".join([*c[: at + 1], *c[at:]]) for c in lines)]), "utf-8")
    found = told(home, path)
    (gap,) = [gap for gap in found["gaps"] if gap["is_needed"]]
    assert gap["chosen"] is None
    assert [each["header"] for each in gap["candidates"]] == ["Test RIT Score A", "Test RIT Score B"]
    assert 'score may be "Test RIT Score A", "Test RIT Score B"' in refused(home, path)
    said = Asked(named=(("score", "Test RIT Score B"),))
    assert write_aliases(home, look_at(home, path, said)[0]) == [f"policy/aliases/{MAP}.toml"]
    assert told(home, path)["layout"] == MAP


def test_two_layouts_that_are_as_near_are_asked(home, tmp_path, monkeypatch):
    twin = layouts()["district_csv"].model_copy(update={"id": "district_twin"})
    monkeypatch.setattr("pipelines.aliases.layouts", lambda: {**layouts(), "district_twin": twin})
    path = renamed(tmp_path, "district_csv", {"test_date": "Date of test"})
    assert told(home, path)["tied"] == ["district_csv", "district_twin"]
    assert "are equally near. Say which it is: --layout district_csv" in refused(home, path)
    said = Asked(layout="district_csv")
    assert told(home, path, said)["tied"] == []
    assert write_aliases(home, look_at(home, path, said)[0]) == ["policy/aliases/district_csv.toml"]


def test_a_needed_column_without_a_likely_header_is_asked(home, tmp_path):
    path = renamed(tmp_path, "district_csv", {"measure": "Zzz"})
    text = refused(home, path, Asked(layout="district_csv"))
    assert 'no header is near "measure"' in text
    assert '--alias measure="HEADER"' in text


def test_a_file_far_from_everything_says_the_nearest_and_shows_no_name(home, tmp_path):
    path = made(tmp_path, "Given Name,Shoe Size,grade,school_name", "Ana,36,4,Elm")
    found = told(home, path)
    assert found["rule"] == "unknown_layout"
    assert "No layout is near. The nearest is " in found["message"]
    assert f"at {found['score']:.2f} of 1" in found["message"]
    assert found["alias_toml"] is None and found["trial"] is None
    assert "Shoe" not in json.dumps(found)
    assert "No layout is near" in refused(home, path)


def test_a_file_without_a_header_shows_none_of_its_first_row(home, tmp_path):
    path = made(tmp_path, "Ana,Quill,7,score,percentile", "Ben,Moss,8,190,30")
    assert "Quill" not in json.dumps(told(home, path))


# What is refused


def test_values_that_are_not_of_the_type_are_refused_in_counts(home, tmp_path):
    text = (EXPORTS / f"{MAP}.csv").read_text("utf-8-sig")
    path = tmp_path / "export.csv"
    path.write_text(text.replace("TestRITScore", "Zzz", 1), "utf-8")
    said = refused(home, path, Asked(named=(("score", "DistrictName"),)))
    assert "is read by" in said or "cannot be score" in said
    header = "student_id,test_date,measure,result,window,school_year,school_id"
    rows = [f"{n},2026-09-02,ela,secret{n},fall,2026-2027,e1" for n in range(8)]
    path = made(tmp_path, header, *rows, "9,2026-09-02,ela,450,fall,2026-2027,e1")
    said = refused(home, path, Asked(layout="district_csv", named=(("score", "result"),)))
    assert '"result" cannot be score: 8 of 9 values are no number.' in said
    assert "secret" not in said


def test_a_header_is_never_two_columns(home, tmp_path):
    path = renamed(tmp_path, MAP, {"TestRITScore": "Zzz", "TestStartDate": "Yyy"})
    two = Asked(named=(("score", "Zzz"), ("occurred_on", "Zzz")))
    assert "would be read as two columns" in refused(home, path, two) or "no date" in refused(home, path, two)
    taken = Asked(named=(("score", "TestPercentile"),))
    assert "is read by nwea_map_assessment_results already" in refused(home, path, taken)


def test_an_alias_of_another_column_is_not_taken_over(home, tmp_path):
    home.make()
    (home.policies / "aliases").mkdir()
    file = home.policies / "aliases" / f"{MAP}.toml"
    file.write_text('[columns]\nstandard_error = ["Test RIT Score"]\n')
    path = renamed(tmp_path, MAP, {"TestRITScore": "Test RIT Score", "TestStandardError": "SEM"})
    with pytest.raises(AliasRefused):
        write_aliases(home, look_at(home, path, Asked(named=(("score", "Test RIT Score"),)))[0])
    assert file.read_text() == '[columns]\nstandard_error = ["Test RIT Score"]\n'


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (Asked(layout="nobody"), "No layout is called nobody"),
        (Asked(named=(("shoe_size", "Zzz"),)), "lacks no column shoe_size here. Those it lacks: "),
        (Asked(named=(("score", "Nowhere"),)), 'The file has no column "Nowhere"'),
    ],
)
def test_what_there_is_not_is_told(home, tmp_path, asked, words):
    path = renamed(tmp_path, MAP, {"TestRITScore": "Zzz"})
    with pytest.raises(AliasRefused, match=words):
        look_at(home, path, asked)


def test_a_hostile_header_is_shown_harmless_or_refused(home, tmp_path):
    path = renamed(tmp_path, MAP, {"TestRITScore": '=HYPERLINK("x")TestRITScore'.replace('"', "'")})
    found = told(home, path)
    assert not any(each["found"].startswith("=") for each in found["likely"])
    path = renamed(tmp_path, MAP, {"TestRITScore": "Test\x1b[31mRITScore"})
    assert "bytes that no text file has" in told(home, path)["message"]
    path = renamed(tmp_path, MAP, {"TestRITScore": "Test\u202eRITScore[red]"})
    assert tierline("layouts", path, "--home", home.root)[1].replace("\n", "").isprintable()
    path = made(tmp_path, ",".join(f"StudentID{n}" for n in range(10 * MOST_COLUMNS)), "1")
    assert "the header has 10,000 columns" in told(home, path)["message"]


# How it would load


def test_the_trial_is_the_ledger_of_the_load_that_follows(tmp_path):
    place = Place(tmp_path)
    place.load("1/users.csv", users_file("1", "2", "3", "4"))
    rows = [map_row(str(n), 180 + n) for n in range(1, 6)]
    rows += [map_row("3", 183), map_row("4", "abc", test="x"), map_row("2", 190, subject="Science", test="y")]
    place.land("map.csv", map_file(*rows).replace("TestRITScore", "RIT", 1))
    before = sorted(place.home.root.rglob("*"))
    looked, (found,) = look_at(place.home, place.landing / "map.csv", Asked())
    assert sorted(place.home.root.rglob("*")) == before
    assert found["trial"]["match_rate"] == 0.8
    write_aliases(place.home, looked)
    (row,) = place.load().rows
    assert row["status"] == "loaded"
    counted = ("data_rows", "parsed", "rejected", "out_of_scope", "parked", "duplicate_in_file")
    assert {name: found["trial"][name] for name in counted} == {name: row[name] for name in counted}
    assert row["parked"] == 1 and row["rejected"] == 1 and row["out_of_scope"] == 1 and row["duplicate_in_file"] == 1
    assert found["trial"]["facts"]["appended"] == row["facts_appended"]


def test_a_trial_that_would_be_held_says_so(tmp_path):
    place = Place(tmp_path)
    place.load("1/users.csv", users_file("1"))
    place.land("map.csv", map_file(*(map_row(str(n), 180 + n) for n in range(1, 9))))
    (found,) = layouts_of(place.home, place.landing / "map.csv")
    assert found["trial"]["held_rule"] == "match_rate"


def test_nothing_is_made_by_looking(home, tmp_path):
    told(home, renamed(tmp_path, MAP, {"TestRITScore": "Test RIT Score"}))
    assert not home.root.exists()


# An alias is a fact


def aliased(place: Place, text: str) -> None:
    folder = place.home.policies / "aliases"
    folder.mkdir(exist_ok=True)
    (folder / f"{MAP}.toml").write_text(text)


def facts(place: Place) -> list[tuple[str, str]]:
    rows = place.events("rules").filter(pl.col("event_type") == "LayoutAliasAdded").sort("export_at")
    return rows.select("aliased_layout", "document").rows()


def test_an_alias_and_its_end_are_facts_of_the_log(tmp_path):
    place = Place(tmp_path)
    place.load("map.csv", map_file(map_row("1", 186)))
    assert facts(place) == []
    aliased(place, '[columns]\nscore = ["RIT"]\n')
    assert place.load().rules == 1
    assert place.load().rules == 0
    (place.home.policies / "aliases" / f"{MAP}.toml").unlink()
    assert place.load().rules == 1
    assert facts(place) == [(MAP, '{"score": ["RIT"]}'), (MAP, "{}")]
    assert place.home.policy("d1").time_zone == "America/Denver"
    place.refresh()
    assert place.table("screening_result").height == 1


def test_the_aliases_are_part_of_the_batch(tmp_path):
    place = Place(tmp_path)
    held = place.load("map.csv", map_file(map_row("1", 186)).replace("TestRITScore", "RIT", 1)).rows[0]
    aliased(place, '[columns]\nscore = ["RIT"]\n')
    assert place.load().rows[0]["batch_id"] != held["batch_id"]


@pytest.mark.slow
def test_rows_parked_under_earlier_aliases_are_found_by_a_later_roster(tmp_path):
    place = Place(tmp_path)
    aliased(place, '[columns]\nscore = ["RIT"]\n')
    place.load("1/users.csv", users_file("1", "2"))
    file = map_file(*(map_row(str(n), 180 + n) for n in (1, 2, 3))).replace("TestRITScore", "RIT", 1)
    assert place.load("map.csv", file).rows[0]["parked"] == 1
    aliased(place, '[columns]\nscore = ["RIT", "RIT again"]\n')
    report = place.load("2/users.csv", users_file("1", "2", "3"))
    assert [(row["layout"], row["parsed"], row["parked"]) for row in report.rows][-1] == (MAP, 1, 0)


# The command


def test_the_command_shows_a_file_to_copy_and_writes_it_when_asked(home, tmp_path):
    path = renamed(tmp_path, MAP, {"TestRITScore": "Test RIT Score"})
    code, out, _ = tierline("layouts", path, "--home", home.root)
    assert code == NOTHING
    assert f'# policy/aliases/{MAP}.toml\n[columns]\nscore = ["Test RIT Score"]' in out
    assert "parsed                 5" in out
    code, out, _ = tierline("layouts", path, "--home", home.root, "--write")
    assert code == DONE
    assert f"Written: policy/aliases/{MAP}.toml." in out
    assert tierline("layouts", path, "--home", home.root)[0] == DONE


def test_the_command_in_json_says_everything_and_no_cell(home, tmp_path):
    path = renamed(tmp_path, MAP, {"TestRITScore": "Test RIT Score"})
    path.write_text(path.read_text("utf-8").replace("Mathematics", "mathematics"), "utf-8")
    code, out, _ = tierline("layouts", path, "--home", home.root, "--write", "--json")
    (found,) = json.loads(out)
    assert code == DONE
    assert found["is_written"] is True
    assert found["gaps"][0]["candidates"][0].keys() == {
        "header", "name_likeness", "values", "values_fit", "is_in_place",
    }  # fmt: skip
    cells = {cell for line in path.read_text("utf-8").splitlines()[1:] for cell in line.split(",") if len(cell) > 4}
    assert cells
    assert {cell for cell in cells if cell in out} == set()


def test_the_command_refuses_with_one_line(home, tmp_path, capsys):
    path = renamed(tmp_path, "district_csv", {"measure": "Zzz"})
    result = CliRunner().invoke(
        cli.app, ["layouts", str(path), "--home", str(home.root), "--layout", "district_csv", "--write"]
    )
    assert isinstance(result.exception, AliasRefused)
    assert tierline("layouts", path, "--alias", "score")[0] == WRONG_USE


def test_remarks_and_earlier_aliases_stay_in_the_file(home, tmp_path):
    home.make()
    folder = home.policies / "aliases"
    folder.mkdir()
    (folder / f"{MAP}.toml").write_text('# Agreed with the vendor in 2025.\n[columns]\nscore = ["RIT"]\n')
    path = renamed(tmp_path, MAP, {"TestRITScore": "Test RIT Score"})
    write_aliases(home, look_at(home, path, Asked())[0])
    assert (folder / f"{MAP}.toml").read_text() == (
        '# Agreed with the vendor in 2025.\n[columns]\nscore = ["RIT", "Test RIT Score"]\n'
    )


def test_a_member_of_an_archive_is_tried_like_a_file(home, tmp_path):
    path = renamed(tmp_path, MAP, {"TestRITScore": "Test RIT Score"})
    shutil.make_archive(str(tmp_path / "both"), "zip", tmp_path, path.name)
    found = told(home, tmp_path / "both.zip")
    assert found["trial"]["parsed"] == 5
