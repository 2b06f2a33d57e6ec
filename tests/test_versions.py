"""Keys, hashes and versions of facts."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.contract import columns
from schemas.events import EVENT_TYPES, FAMILIES
from tests.examples import examples
from transforms.versions import compare, content_text, current, identify

SECRET = bytes(range(32))
START = datetime(2026, 1, 1, tzinfo=UTC)


def scores(*rows: dict[str, object]) -> pl.DataFrame:
    """Parsed screening facts: what a row leaves out is null."""
    schema = columns(FAMILIES["screening"]) | {"source_line": pl.Int64(), "slot": pl.Int32()}
    base = {
        "event_type": "ScreenerScored",
        "subject_key": "s1",
        "measure": "map_growth_math",
        "occurred_on": date(2025, 9, 10),
        "slot": 0,
    }
    return pl.DataFrame([base | {"source_line": line} | row for line, row in enumerate(rows, 2)], schema=schema)


def text_of(**row: object) -> str:
    return scores(row).select(content_text("screening")).item()


def test_whole_numbers_have_no_decimal_point_and_floats_their_shortest_form():
    assert "score=186" in text_of(score=186.0).split("\x1f")
    assert "score=186.1" in text_of(score=186.1).split("\x1f")
    assert "percentile=0.30000000000000004" in text_of(percentile=0.1 + 0.2).split("\x1f")


def test_nulls_are_left_out_so_that_a_new_column_changes_no_hash():
    assert text_of(score=186.0) == "\x1f".join(["occurred_on=2025-09-10", "measure=map_growth_math", "score=186"])


def test_layout_batch_and_line_are_not_content():
    rows = scores({"score": 186.0}, {"score": 186.0, "batch_id": "other", "layout": "other"})
    assert rows.select(content_text("screening")).to_series().n_unique() == 1


def test_a_column_the_layout_does_not_hash_changes_nothing():
    rows = scores({"score": 186.0, "percentile": 14.0}, {"score": 186.0, "percentile": 15.0})
    assert identify(rows, "screening", SECRET, ["percentile"])["content_hash"].n_unique() == 1
    assert identify(rows, "screening", SECRET)["content_hash"].n_unique() == 2


def test_the_order_of_strands_is_not_content():
    number = {"strand": "Number", "score": 201.0, "standard_error": 3.0, "label": "Avg"}
    algebra = {"strand": "Algebra", "score": 190.0, "standard_error": 3.0, "label": "Low"}
    assert text_of(strands=[number, algebra]) == text_of(strands=[algebra, number])
    hashes = identify(scores({"strands": []}, {"strands": None}, {"strands": [number]}), "screening", SECRET)
    assert hashes["content_hash"].n_unique() == 2
    assert identify(scores({"strands": []}), "screening", SECRET)["content_hash"].item() in hashes["content_hash"]


def test_hashes_depend_on_the_secret():
    rows = scores({"score": 186.0})
    one, other = identify(rows, "screening", SECRET), identify(rows, "screening", bytes(32))
    assert one["natural_key"].item() != other["natural_key"].item()
    assert one["content_hash"].item() != other["content_hash"].item()


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ({"vendor_test_id": "t1", "score": 1.0}, {"vendor_test_id": "t1", "score": 2.0}, True),
        ({"vendor_test_id": "t1"}, {"vendor_test_id": "t1", "subject_key": "s2"}, False),
        ({"vendor_test_id": "t1"}, {"vendor_test_id": "t2"}, False),
        ({"vendor_test_id": "t1"}, {"vendor_test_id": "t1", "occurred_on": date(2025, 9, 11)}, True),
        ({"season_slot": "Fall", "school_year": "2026"}, {"season_slot": "Fall", "school_year": "2026"}, True),
        ({"season_slot": "Fall", "school_year": "2026"}, {"season_slot": "Winter", "school_year": "2026"}, False),
        ({"started_at": "08:00:00"}, {"started_at": "09:00:00"}, False),
        ({"started_at": "08:00:00", "score": 1.0}, {"started_at": "08:00:00", "score": 2.0}, True),
        ({"form": "a"}, {"form": "b"}, False),
    ],
)
def test_a_test_is_known_by_vendor_id_else_season_else_sitting(first, second, same):
    keys = identify(scores(first, second), "screening", SECRET)["natural_key"]
    assert (keys.n_unique() == 1) is same


def test_two_sittings_of_one_day_without_times_are_two_facts_whatever_the_order_of_rows():
    rows = scores({"score": 180.0}, {"score": 190.0})
    there = identify(rows, "screening", SECRET).select("score", "natural_key").sort("score")
    back = identify(rows.reverse().with_columns(source_line=pl.Series([2, 3])), "screening", SECRET)
    assert there["natural_key"].n_unique() == 2
    assert there.equals(back.select("score", "natural_key").sort("score"))


def test_an_exact_repeat_is_marked_on_the_later_line():
    named = identify(scores({"score": 180.0}, {"score": 180.0}), "screening", SECRET).sort("source_line")
    assert named["is_repeat"].to_list() == [False, True]
    assert named["natural_key"].n_unique() == 1


def test_no_two_kinds_of_fact_share_a_key_by_having_the_same_parts():
    kinds = {(spec.kind, spec.family, spec.keys) for spec in EVENT_TYPES.values()}
    assert len(kinds) == len({kind for kind, _, _ in kinds})


def versions(*rows: tuple[str, str, int]) -> pl.DataFrame:
    """Natural key, content, day of export."""
    return pl.DataFrame(
        [(key, content, START + timedelta(days=day)) for key, content, day in rows],
        schema={"natural_key": pl.String, "content_hash": pl.String, "export_at": pl.Datetime("us", "UTC")},
        orient="row",
    )


def changes(new: pl.DataFrame, seen: pl.DataFrame) -> list[str]:
    return compare(new, seen)["change"].to_list()


def test_a_first_sight_is_appended():
    assert changes(versions(("k", "186", 1)), versions()) == ["appended"]


def test_the_same_again_is_unchanged():
    assert changes(versions(("k", "186", 2)), versions(("k", "186", 1))) == ["unchanged"]
    assert changes(versions(("k", "186", 1)), versions(("k", "186", 1))) == ["unchanged"]


def test_186_192_186_is_two_corrections():
    assert changes(versions(("k", "192", 2)), versions(("k", "186", 1))) == ["corrected"]
    assert changes(versions(("k", "186", 3)), versions(("k", "186", 1), ("k", "192", 2))) == ["corrected"]


def test_an_older_version_that_arrives_late_is_stored():
    assert changes(versions(("k", "186", 1)), versions(("k", "192", 2))) == ["corrected"]


def test_one_file_that_says_two_things_says_both():
    assert sorted(changes(versions(("k", "a", 1), ("k", "b", 1)), versions())) == ["appended", "corrected"]


def test_the_latest_export_is_current_and_at_equal_times_the_lowest_hash():
    seen = versions(("k", "b", 1), ("k", "a", 1), ("m", "x", 1), ("m", "y", 2))
    found = dict(current(seen.lazy()).collect().rows())
    assert found == {"k": "a", "m": "y"}


HISTORY = st.lists(
    st.tuples(st.sampled_from("km"), st.sampled_from(["a", "b"]), st.integers(0, 4)), min_size=1, max_size=12
)


@examples(60)
@given(HISTORY, st.randoms())
def test_what_is_current_does_not_depend_on_the_order_of_arrival(history, random):
    shuffled = list(history)
    random.shuffle(shuffled)
    one, other = (current(versions(*rows).lazy()).collect().sort("natural_key") for rows in (history, shuffled))
    assert one.equals(other)
