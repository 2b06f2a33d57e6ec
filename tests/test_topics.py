"""Strands in which a class is in need."""

from datetime import date
from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from scipy import stats

from schemas.policy import DEFAULT_STRANDS, DistrictPolicy, StrandRule, UnreadablePolicy, read_policy
from schemas.projections import ClassDecision, ClassMembership, ScreeningResult
from tests.examples import examples
from tests.made_classes import POLICY, REFERENCE_ON, frame
from transforms.topics import class_topics, topic_breadth, with_topics

READ = examples(40)
KEY = {"district_id": "d1", "school_year": "2026", "benchmark_window": "winter"}


def school_data(students, levels=None, measure="map_growth_math", untested=0):
    """Students as `(class, {strand: label or score})`."""
    members, tests = [], []
    for place, (cls, strands) in enumerate(students):
        here = KEY | {"subject_key": f"x{place}"}
        members.append(
            here | {"class_id": cls, "school_id": "s1", "grade": "4", "reference_on": REFERENCE_ON["winter"]}
        )
        said = [
            {
                "strand": strand,
                "score": value if isinstance(value, float) else None,
                "standard_error": None,
                "label": value if isinstance(value, str) else None,
            }
            for strand, value in strands.items()
        ]
        tests.append(here | {"measure": measure, "grade": "4", "is_chosen": True, "strands": said})
    sizes = {cls: sum(each == cls for each, _ in students) for cls in {each for each, _ in students}}
    decisions = [
        KEY
        | {
            "measure": measure,
            "class_id": cls,
            "school_id": "s1",
            "grade": "4",
            "enrolled": size + untested,
            "level": (levels or {}).get(cls, "STUDENT"),
        }
        for cls, size in sizes.items()
    ]
    return frame(members, ClassMembership), frame(tests, ScreeningResult), frame(decisions, ClassDecision)


def topics(students, policy=POLICY, **more):
    return class_topics(*school_data(students, **more), {"d1": policy})


def with_strands(*rules):
    return DistrictPolicy(time_zone="America/Denver", strands=rules)


def klass(cls="a", students=24, **low):
    """A class in which the first so many are low in each strand."""
    return [
        (cls, {strand: "Low" if place < many else "Avg" for strand, many in low.items()}) for place in range(students)
    ]


def breadth(students, **more):
    (row,) = topic_breadth(topics(students, **more)).to_dicts()
    return row["topic_breadth"], row["topics"]


def test_each_strand_has_its_count_interval_and_probability():
    row = topics(klass(Geometry=9)).row(0, named=True)
    assert (row["strand"], row["tested"], row["in_need"], row["need_share"]) == ("Geometry", 24, 9, 9 / 24)
    assert row["p_above"] == pytest.approx(stats.beta.sf(0.2, 9.5, 15.5), abs=1e-8)
    assert row["interval_low"] == pytest.approx(stats.beta.ppf(0.025, 9.5, 15.5), abs=1e-8)
    assert row["interval_high"] == pytest.approx(stats.beta.ppf(0.975, 9.5, 15.5), abs=1e-8)
    assert row["is_topic"]


@pytest.mark.parametrize(
    ("low", "said"),
    [
        ({"A": 2, "B": 2, "C": 2, "D": 2}, ("none", None)),
        ({"A": 2, "B": 12, "C": 2, "D": 2}, ("one", "B")),
        ({"A": 2, "B": 12, "C": 2, "D": 12}, ("several", "B; D")),
        ({"A": 12, "B": 12, "C": 2, "D": 12}, ("most", "A; B; D")),
        ({"A": 12}, ("one", "A")),
        ({"A": 12, "B": 12}, ("most", "A; B")),
    ],
)
def test_breadth_goes_by_the_strands_judged(low, said):
    assert breadth(klass(**low)) == said


def test_under_ten_students_or_under_eighty_percent_of_the_class_a_strand_is_not_judged():
    assert breadth(klass(students=9, A=9)) == ("unknown", None)
    assert breadth(klass(students=10, A=9)) == ("one", "A")
    assert breadth(klass(students=12, A=9), untested=3) == ("one", "A")
    assert breadth(klass(students=12, A=9), untested=4) == ("unknown", None)


def test_a_class_whose_data_cannot_say_has_no_topics():
    assert breadth(klass(A=12), levels={"a": "SYSTEM_DATA"}) == ("unknown", None)


def test_a_label_no_rule_names_is_unknown_and_not_out_of_need():
    students = [("a", {"A": label}) for label in ["Low"] * 6 + ["Avg"] * 6 + ["Surpassed"] * 12]
    row = topics(students).row(0, named=True)
    assert (row["tested"], row["in_need"], row["p_above"]) == (12, 6, None)


def test_labels_are_read_without_regard_to_case_and_blanks():
    assert topics([("a", {"A": " low "})] * 12)["in_need"].to_list() == [12]


def test_iready_counts_two_or_more_grades_below():
    labels = ["2 Grade Levels Below"] * 3 + ["3 or More Grade Levels Below"] * 2 + ["1 Grade Level Below"] * 7
    row = topics([("a", {"Geometry": each}) for each in labels], measure="iready_math").row(0, named=True)
    assert (row["tested"], row["in_need"]) == (12, 5)


def test_a_measure_without_a_strand_rule_has_no_topics():
    assert topics(klass(A=12), measure="star_math").is_empty()


def test_a_strand_score_cut_of_the_district_comes_before_the_label_where_it_is_for_the_strand_and_grade():
    rule = StrandRule(measure="map_growth_math", strands=("Geometry",), grades=("4",), below=190, source="Board.")
    policy = with_strands(rule)
    students = [("a", {"Geometry": 189.0 if place < 5 else 190.0, "Algebra": "Low"}) for place in range(12)]
    found = topics(students, policy)
    assert dict(found.select("strand", "in_need").rows()) == {"Algebra": 12, "Geometry": 5}
    elsewhere = StrandRule(measure="map_growth_math", grades=("5",), below=300, source="Board.")
    assert topics(klass(A=3), with_strands(elsewhere))["in_need"].to_list() == [3]


def test_a_strand_rule_that_is_not_valid_yet_decides_nothing():
    rule = StrandRule(measure="map_growth_math", need=("Avg",), valid_from=date(2027, 1, 1), source="Board.")
    assert topics(klass(A=3), with_strands(rule))["in_need"].to_list() == [3]


@pytest.mark.parametrize(
    "rule",
    ['need = ["Low"]\nbelow = 3', "", 'need = ["Low"]\nnone = ["low "]', 'need = ["Low"]\nmeasure = "map_growt"'],
)
def test_a_strand_rule_that_says_two_things_or_nothing_is_refused(tmp_path, rule):
    measure = "" if "measure" in rule else 'measure = "map_growth_math"\n'
    path = tmp_path / "d1.toml"
    path.write_text(f'time_zone = "America/Denver"\n[[strands]]\nsource = "Board."\n{measure}{rule}\n')
    with pytest.raises(UnreadablePolicy, match="strand"):
        read_policy(path)


def test_every_default_strand_rule_has_a_source():
    assert DEFAULT_STRANDS and all(rule.source for rule in DEFAULT_STRANDS)
    assert DistrictPolicy(time_zone="America/Denver").all_strands == DEFAULT_STRANDS


def test_a_class_without_strands_is_unknown():
    *_, decisions = school_data(klass(A=12) + klass("b", B=0))
    joined = with_topics(
        decisions.drop("topic_breadth", "topics").collect(), topics(klass(A=12)).filter(pl.col("class_id") == "a")
    )
    assert dict(joined.select("class_id", "topic_breadth").rows()) == {"a": "one", "b": "unknown"}


LABELS = st.sampled_from(["Low", "LoAvg", "Avg", "HiAvg", "High", "?", None])
CLASSES = st.lists(
    st.tuples(st.sampled_from("ab"), st.dictionaries(st.sampled_from("ABCDE"), LABELS, max_size=5)),
    min_size=1,
    max_size=40,
)


@READ
@given(students=CLASSES)
def test_a_slow_reference_agrees(students):
    found = topics(students)
    expected, known = {}, {"LoAvg": 0, "Avg": 0, "HiAvg": 0, "High": 0, "Low": 1}
    for cls in {each for each, _ in students}:
        mine = [strands for each, strands in students if each == cls]
        for strand in {name for strands in mine for name in strands}:
            needs = [known[strands[strand]] for strands in mine if strands.get(strand) in known]
            if needs:
                judged = len(needs) >= 10 and Fraction(len(needs), len(mine)) >= Fraction(4, 5)
                chance = stats.beta.sf(0.2, sum(needs) + 0.5, len(needs) - sum(needs) + 0.5)
                expected[cls, strand] = (len(needs), sum(needs), pytest.approx(chance, abs=1e-8) if judged else None)
    rows = found.select("class_id", "strand", "tested", "in_need", "p_above").rows()
    assert {row[:2]: row[2:] for row in rows} == expected


@READ
@given(students=CLASSES, shuffle=st.randoms(use_true_random=False))
def test_order_of_students_and_labels_of_classes_change_no_digit(students, shuffle):
    first = topics(students)
    turned = [("b" if cls == "a" else "a", strands) for cls, strands in students]
    shuffle.shuffle(turned)
    again = topics(turned).with_columns(pl.col("class_id").replace_strict({"a": "b", "b": "a"}))
    assert_frame_equal(again.sort("class_id", "strand"), first.sort("class_id", "strand"), check_exact=True)
