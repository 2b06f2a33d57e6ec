"""Who is one student."""

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import examples
from transforms.identity import best_match, winners


def merges(*pairs: tuple[str, str], district: str = "d") -> pl.DataFrame:
    return pl.DataFrame(
        [(district, loser, winner) for loser, winner in pairs],
        schema=["district_id", "loser_key", "winner_key"],
        schema_overrides={"district_id": pl.String, "loser_key": pl.String, "winner_key": pl.String},
        orient="row",
    )


def shown(frame: pl.DataFrame) -> dict[str, str]:
    return dict(winners(frame).select("subject_key", "shown_key").rows())


def test_the_smallest_key_stands_for_all_that_are_linked():
    assert shown(merges(("c", "b"), ("b", "a"), ("z", "y"))) == {"b": "a", "c": "a", "z": "y"}


def test_keys_of_two_districts_are_never_linked():
    both = pl.concat([merges(("b", "a")), merges(("b", "c"), district="e")])
    assert set(winners(both).rows()) == {("d", "b", "a"), ("e", "c", "b")}


def test_without_merges_nobody_is_renamed():
    assert winners(merges()).is_empty()


@examples(80)
@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("abcdefgh")), max_size=10))
def test_linked_keys_agree_with_a_plain_search(pairs):
    links: dict[str, set[str]] = {}
    for one, other in pairs:
        links.setdefault(one, set()).add(other)
        links.setdefault(other, set()).add(one)

    def smallest(key: str) -> str:
        seen, todo = {key}, [key]
        while todo:
            for near in links.get(todo.pop(), ()):
                if near not in seen:
                    seen.add(near)
                    todo.append(near)
        return min(seen)

    expected = {key: smallest(key) for key in links if smallest(key) != key}
    assert shown(merges(*pairs)) == expected


def ids(*rows: tuple[str, str, str, str]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["subject_key", "id_column", "id_type", "id"], orient="row")


ROSTER = pl.DataFrame(
    [("sis", "u1", "r1"), ("sis", "u2", "r2"), ("local", "101", "r1"), ("local", "102", "r2")],
    schema=["id_type", "id", "subject_key"],
    orient="row",
)


def test_the_column_that_finds_most_students_decides():
    file = ids(
        ("s1", "StudentID", "local", "9"),
        ("s2", "StudentID", "local", "101"),
        ("s1", "Other", "state", "u1"),
        ("s2", "Other", "state", "u2"),
    )
    column, id_type, rate, pairs = best_match(file, ROSTER)
    assert (column, id_type, rate) == ("Other", "sis", 1.0)
    assert sorted(pairs.rows()) == [("s1", "r1"), ("s2", "r2")]


def test_students_the_roster_does_not_know_lower_the_rate():
    file = ids(("s1", "StudentID", "local", "101"), ("s2", "StudentID", "local", "999"))
    assert best_match(file, ROSTER)[2] == 0.5


def test_nobody_found_is_a_rate_of_zero():
    column, _, rate, pairs = best_match(ids(("s1", "StudentID", "local", "9")), ROSTER)
    assert (column, rate, pairs.height) == (None, 0.0, 0)
