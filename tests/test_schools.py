from schemas.contract import broken_rules, columns, conform
from schemas.projections import School
from tests.tables import facts
from transforms.schools import schools

ROSTER = """
event_type | school_id | school_name | org_type
SchoolListed | s1 | Cedar | school
SchoolListed | s2 | | school
SchoolListed | s3 | Maple |
SchoolListed | d1 | The district | district
ClassListed | s1 | | school
"""


def test_schools_are_listed_under_their_names_and_other_organisations_are_not():
    found = schools(facts(roster=ROSTER)).collect()
    assert found.columns == [name for name in columns(School) if name != "input_id"]
    assert found.sort("school_id").select("school_id", "school_name").rows() == [
        ("s1", "Cedar"),
        ("s2", None),
        ("s3", "Maple"),
    ]


def test_no_roster_is_no_school():
    found = conform(schools(facts()), School).collect()
    assert found.is_empty()
    assert broken_rules(found, School).is_empty()
