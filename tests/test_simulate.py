"""Synthetic districts: same seed, same bytes; the vendors' headers; what was planted shows."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from pipelines.simulate import SimulatedDistrict, corrected_school_file, simulate
from schemas.exports import layouts
from transforms.exports import Context, parse, wanted
from transforms.recognition import Recognised, recognise
from warehouse.tabular import read_header, read_table

HEADERS = Path(__file__).parent / "headers"


@pytest.fixture(scope="module")
def district(tmp_path_factory: pytest.TempPathFactory) -> SimulatedDistrict:
    return simulate(tmp_path_factory.mktemp("landing"), students=3000, seed=7)[0]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SimulatedDistrict:
    return simulate(tmp_path_factory.mktemp("small"), students=700, seed=8)[0]


def read(path: Path) -> pl.DataFrame:
    return pl.read_csv(path, infer_schema=False)


def first_line(path: Path) -> str:
    with path.open(encoding="utf-8-sig") as file:
        return file.readline().rstrip("\r\n")


def growth_tests(district: SimulatedDistrict, term: str) -> pl.DataFrame:
    """One row per student: the math test that counts for growth."""
    rows = read(next((district.path / "map_growth").glob(f"AssessmentResults_{term}_*.csv")))
    return rows.filter((pl.col("Subject") == "Mathematics") & (pl.col("GrowthMeasureYN") == "TRUE")).with_columns(
        pl.col("TestPercentile", "TestRITScore").cast(pl.Int64)
    )


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path):
    one, other, another = (
        simulate(tmp_path / name, districts=2, students=900, seed=seed) for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    for ours, theirs in zip(one, other, strict=True):
        assert [file.relative_to(ours.path) for file in ours.files] == [
            f.relative_to(theirs.path) for f in theirs.files
        ]
        assert all(a.read_bytes() == b.read_bytes() for a, b in zip(ours.files, theirs.files, strict=True))
        assert all(a.stat().st_mtime == b.stat().st_mtime for a, b in zip(ours.files, theirs.files, strict=True))
        assert ours.truth.equals(theirs.truth)
    assert one[0].files[-1].read_bytes() != another[0].files[-1].read_bytes()


def test_students_are_shared_among_districts_and_state_ids_are_not(tmp_path: Path):
    districts = simulate(tmp_path, districts=3, students=1000, seed=1, kinds=("roster",))
    users = [read(each.path / "roster" / "users.csv").filter(pl.col("role") == "student") for each in districts]
    assert [frame.height for frame in users] == [334, 333, 333]
    assert pl.concat(users)["userIds"].is_unique().all()
    assert not (tmp_path / "d001" / "map_growth").exists()


def test_an_unknown_kind_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="unknown kinds of files: grades"):
        simulate(tmp_path, kinds=("roster", "grades"))


OFFICIAL = {
    "roster/manifest.csv": ("oneroster_manifest", 2),
    "roster/orgs.csv": ("oneroster_orgs", 7),
    "roster/academicSessions.csv": ("oneroster_academicSessions", 9),
    "roster/courses.csv": ("oneroster_courses", 10),
    "roster/classes.csv": ("oneroster_classes", 14),
    "roster/users.csv": ("oneroster_users", 18),
    "roster/enrollments.csv": ("oneroster_enrollments", 10),
    "roster/demographics.csv": ("oneroster_demographics", 16),
    "map_growth/AssessmentResults_Fall_2025-2026.csv": ("map_growth", 143),
    "map_growth/AssessmentResults_Winter_2025-2026.csv": ("map_growth", 143),
    "map_growth/AssessmentResults_Spring_2025-2026.csv": ("map_growth", 143),
    "iready/diagnostic_results_math_CONFIDENTIAL.csv": ("iready_2026", 58),
    "star/SM_v2.csv": ("star_math", 118),
    "fastbridge/aMath.csv": ("fastbridge_amath", 101),
    "fastbridge/CBMmath_CAP.csv": ("fastbridge_cbmmath_cap", 96),
    "fastbridge/progress_monitoring.csv": ("fastbridge_progress", 22),
    "tutoring/sessions.csv": ("datas_sessions", 6),
    "tutoring/students.csv": ("datas_students", 23),
    "cycles/cycles.csv": ("cycle_log_cycles", 14),
    "cycles/members.csv": ("cycle_log_members", 10),
    "cycles/sessions.csv": ("cycle_log_sessions", 13),
    "cycles/attendance.csv": ("cycle_log_attendance", 8),
    "cycles/probes.csv": ("cycle_log_probes", 9),
    "cycles/evidence.csv": ("cycle_log_evidence", 8),
    "cycles/referrals.csv": ("cycle_log_referrals", 8),
    "cycles/contacts.csv": ("cycle_log_contacts", 7),
    "cycles/tier_decisions.csv": ("cycle_log_tier_decisions", 7),
    "cycles/curriculum.csv": ("cycle_log_curriculum", 6),
}
"""File to the official header it must have (`headers/`, taken from real exports and documents) and its columns."""


@pytest.mark.parametrize("file", OFFICIAL)
def test_every_file_has_the_official_header(district: SimulatedDistrict, file: str):
    name, columns = OFFICIAL[file]
    header = first_line(district.path / file)
    assert header == first_line(HEADERS / f"{name}.csv")
    assert header.count(",") == columns - 1


def test_every_file_written_is_listed_here(district: SimulatedDistrict):
    assert {file.relative_to(district.path).as_posix() for file in district.files} == OFFICIAL.keys()


@pytest.mark.parametrize("file", [file for file in OFFICIAL if not file.startswith("roster/")])
def test_every_row_is_understood_by_its_layout(small: SimulatedDistrict, file: str):
    data, name = (small.path / file).read_bytes(), Path(file).name
    found = recognise(read_header(data, name), name, layouts())
    assert isinstance(found, Recognised), found
    assert not found.binding.renamed and not found.binding.new
    table = read_table(data, name, wanted(found.binding))
    parsed = parse(table.rows, found.binding, Context("d001", name, datetime(2026, 6, 6, tzinfo=UTC), "America/Denver"))
    assert table.damaged.is_empty() and parsed.rejected.is_empty()
    assert sum(frame.height for frame in parsed.facts.values()) > 0


def test_iready_is_written_as_the_vendor_writes_it(district: SimulatedDistrict):
    data = (district.path / "iready" / "diagnostic_results_math_CONFIDENTIAL.csv").read_bytes()
    assert data.startswith(b"\xef\xbb\xbf") and data.count(b"\r\n") == data.count(b"\n")
    assert (district.path / "fastbridge" / "CBMmath_CAP.csv").read_bytes().endswith(b"\r\n")


def test_map_growth_quotes_every_cell_and_no_header(district: SimulatedDistrict):
    lines = (district.path / "map_growth" / "AssessmentResults_Fall_2025-2026.csv").read_text().splitlines()
    assert not lines[0].startswith('"')
    assert all(line.startswith('"Fall 2025-2026","') and line.endswith('""') for line in lines[1:])


def test_every_enrolled_user_class_and_school_exists(district: SimulatedDistrict):
    roster = {path.stem: read(path) for path in (district.path / "roster").glob("*.csv")}
    enrolled = roster["enrollments"]
    for column, file in (("userSourcedId", "users"), ("classSourcedId", "classes"), ("schoolSourcedId", "orgs")):
        assert enrolled[column].is_in(roster[file]["sourcedId"].implode()).all()
    assert roster["classes"]["courseSourcedId"].is_in(roster["courses"]["sourcedId"].implode()).all()
    assert roster["demographics"]["sourcedId"].is_in(roster["users"]["sourcedId"].implode()).all()
    for name in roster.keys() - {"manifest"}:
        assert roster[name]["sourcedId"].is_unique().all(), name
    assert (enrolled["beginDate"] <= enrolled["endDate"]).all()
    students = roster["users"].filter(pl.col("role") == "student")
    assert students.height == 3000
    assert students["identifier"].str.starts_with("0").any()
    assert roster["enrollments"].filter(role="teacher").filter(primary="false").height > 0


def test_every_tested_student_is_on_the_roster_in_the_school_that_tested_them(district: SimulatedDistrict):
    users, enrolled, schools = (
        read(district.path / "roster" / f"{name}.csv") for name in ("users", "enrollments", "orgs")
    )
    for term in ("Fall", "Winter", "Spring"):
        tests = growth_tests(district, term)
        assert tests["StudentID"].is_unique().all()
        seats = (
            tests.join(users.select("sourcedId", StudentID="identifier"), on="StudentID")
            .join(enrolled, left_on="sourcedId", right_on="userSourcedId")
            .join(
                schools.select(schoolSourcedId="sourcedId", School_StateID="identifier"),
                on=["schoolSourcedId", "School_StateID"],
            )
            .with_columns(day=pl.col("TestStartDate").str.to_date("%m/%d/%Y").cast(pl.String))
            .filter(pl.col("day").is_between("beginDate", "endDate"))
        )
        assert seats["StudentID"].n_unique() == tests.height


def test_what_was_planted_shows_in_the_percentiles(district: SimulatedDistrict):
    enrolled = read(district.path / "roster" / "enrollments.csv").filter(role="student")
    users = read(district.path / "roster" / "users.csv").select(userSourcedId="sourcedId", StudentID="identifier")
    seats = enrolled.join(users, on="userSourcedId").join(district.truth, left_on="classSourcedId", right_on="class_id")
    rate, coverage = {}, {}
    for term in ("Fall", "Winter", "Spring"):
        tests = growth_tests(district, term).select("StudentID", need=pl.col("TestPercentile") < 20)
        share = (
            seats.filter(pl.col("section") == "regular")
            .join(tests, on="StudentID", how="left")
            .group_by("scenario", "onset")
            .agg(pl.col("need").mean(), tested=pl.col("need").is_not_null().mean())
        )
        for scenario, onset, need, tested in share.iter_rows():
            rate[term, onset if scenario == "class_problem" else scenario] = need
            coverage[term, scenario] = tested
    assert 0.12 < rate["Spring", "typical"] < 0.19
    assert rate["Fall", "entering"] > 0.4 and rate["Spring", "entering"] > 0.4
    assert rate["Fall", "during"] < 0.35 < rate["Spring", "during"]
    assert rate["Spring", "school_problem"] > 0.3
    assert coverage["Winter", "low_coverage"] < 0.65 < 0.85 < coverage["Spring", "low_coverage"]


def test_the_scenarios_are_there_and_classes_have_their_sizes(district: SimulatedDistrict):
    truth = district.truth
    assert set(truth["scenario"]) == {"typical", "class_problem", "school_problem", "low_coverage", "tiny"}
    assert truth["class_id"].is_unique().all()
    assert truth.filter(scenario="school_problem").group_by("school_id", "grade").len()["len"].to_list() >= [2]
    tiny = truth.filter(scenario="tiny")
    assert (tiny["students_fall"] < 10).all()
    regular = truth.filter(pl.col("section") == "regular", pl.col("scenario") != "tiny")
    assert regular["students_fall"].is_between(13, 28).all()


def test_a_score_and_its_percentile_never_disagree_within_a_grade(district: SimulatedDistrict):
    users = read(district.path / "roster" / "users.csv").select("grades", StudentID="identifier")
    pairs = growth_tests(district, "Winter").join(users, on="StudentID").sort("grades", "TestRITScore")
    assert pairs.select((pl.col("TestPercentile").diff() >= 0).over("grades").fill_null(True).all()).item()


def test_a_retest_leaves_one_growth_measure_per_student_and_term(district: SimulatedDistrict):
    rows = read(next((district.path / "map_growth").glob("*_Fall_*.csv"))).filter(
        (pl.col("Subject") == "Mathematics") & (pl.col("TestType") == "Survey With Goals")
    )
    twice = rows.filter(pl.len().over("StudentID") == 2)
    assert twice.height > 50
    assert (twice.group_by("StudentID").agg((pl.col("GrowthMeasureYN") == "TRUE").sum())["GrowthMeasureYN"] == 1).all()


def test_groups_have_three_to_five_students_and_mostly_meet(district: SimulatedDistrict):
    log = {path.stem: read(path) for path in (district.path / "cycles").glob("*.csv")}
    assert log["members"].group_by("cycle_id").len()["len"].is_between(3, 5).all()
    for name in log.keys() - {"cycles", "curriculum", "referrals", "contacts", "tier_decisions"}:
        assert log[name]["cycle_id"].is_in(log["cycles"]["cycle_id"].implode()).all(), name
    held = log["sessions"].group_by("school_id").agg((pl.col("status") == "held").mean()).sort("status")["status"]
    assert held[0] < 0.7 < 0.8 < held[-1]
    present = (log["attendance"]["attendance"] == "present").mean()
    assert 0.86 < present < 0.94
    opened, ends = (pl.col(name).str.to_date() for name in ("opened_on", "planned_end_on"))
    assert log["cycles"].select((ends - opened).dt.total_days().is_between(18, 39).all()).item()
    assert log["cycles"]["closed_on"].null_count() > 0
    assert log["members"]["goal_met_on"].count() > 10 and log["members"]["left_on"].count() > 5
    assert log["evidence"].filter(pl.col("note").str.contains("First [0-9]+ ")).height > 0


def test_about_a_third_of_the_students_in_need_are_helped(tmp_path: Path):
    district = simulate(tmp_path, students=6_000, seed=5, kinds=("map_growth", "cycles"))[0]
    members = read(district.path / "cycles" / "members.csv")["student_id"].unique()
    need = growth_tests(district, "Fall").filter(pl.col("TestPercentile") < 20)
    assert 0.25 < need["StudentID"].is_in(members.implode()).mean() < 0.4


def test_no_record_of_a_cycle_is_written_twice(district: SimulatedDistrict):
    keys = {
        "sessions": ["cycle_id", "starts_at"],
        "attendance": ["cycle_id", "starts_at", "student_id"],
        "members": ["cycle_id", "student_id"],
        "probes": ["student_id", "measure", "form", "probed_on"],
        "evidence": ["row_id"],
    }
    for name, key in keys.items():
        assert not read(district.path / "cycles" / f"{name}.csv").select(key).is_duplicated().any(), name


def test_a_later_export_changes_scores_of_one_school_only(district: SimulatedDistrict, tmp_path: Path):
    changed = corrected_school_file(district.path, tmp_path / "2026-06-08" / "AssessmentResults.csv", seed=2)
    now = read(tmp_path / "2026-06-08" / "AssessmentResults.csv")
    before = read(next((district.path / "map_growth").glob("*_Spring_*.csv")))
    school = before.filter(pl.col("SchoolName") == changed["SchoolName"][0])
    assert now.height == school.height and changed["SchoolName"].n_unique() == 1
    differ = now.with_columns(was=school["TestRITScore"]).filter(pl.col("TestRITScore") != pl.col("was"))
    assert (
        differ.select("StudentID", "TestRITScore", "was").rows()
        == changed.select("StudentID", "after", "before").rows()
    )
    same = [name for name in now.columns if name not in ("TestRITScore", "TestPercentile", "AchievementQuintile")]
    assert now.select(same).equals(school.select(same))
    assert 0 < changed.height <= 0.03 * school.height + 1
