"""What can be proven of withheld cells: the vector's attacks, brute force, and mistakes that must be caught."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.parsing import SAMPLES
from tests.reference_attack import every_table
from transforms.audit import _Attack, audit, audit_releases, band_bounds, intervals
from transforms.bands import nces_bands, safe_bands
from transforms.publication import Layout, Rule, Table, aggregated, long, problem
from transforms.suppression import suppress

VECTOR = json.loads((Path(__file__).parent / "data" / "vectors" / "15_suppression.json").read_text("utf-8"))
PLAIN = Rule(lower=0)
GRID = Layout(tables=(Table("table", ("row", "column")),), counts=("count",))


def vector_table():
    table = VECTOR["table"]
    counts = np.array(table["counts"])
    finest = pl.DataFrame(
        {
            "row": np.repeat(table["rows"], len(table["cols"])),
            "column": np.tile(table["cols"], len(table["rows"])),
            "count": counts.ravel(),
        }
    )
    return problem([long(aggregated(finest, GRID), GRID)], GRID)


def names(made):
    return made.cells.select(pl.format("{}.{}", "row", "column")).to_series()


def withheld(made, wanted):
    return names(made).is_in(wanted).fill_null(False).to_numpy()


@pytest.mark.parametrize("case", VECTOR["attack_by_pattern"], ids=lambda case: " ".join(case["suppressed"]))
def test_the_attacks_of_the_vector_prove_what_it_says(case):
    made = vector_table()
    found = intervals(made.published(withheld(made, case["suppressed"])), PLAIN)
    proven = {names(made)[row["cell"]]: [row["low"], row["high"]] for row in found.to_dicts()}
    assert proven == case["integer_bounds"]


def test_the_cheapest_pattern_of_the_vector_is_found_and_passes():
    made = vector_table()
    pattern = suppress(made, PLAIN)
    expected = {*VECTOR["table"]["primary"], *VECTOR["optimum"]["min_cells"]["extra_suppressed"]}
    assert set(names(made).filter(pl.Series(pattern.withheld))) == expected
    assert audit(made.published(pattern.withheld, pattern.is_primary), PLAIN).is_passed


def test_what_a_subtraction_tells_takes_no_programme():
    made = vector_table()
    alone = withheld(made, VECTOR["table"]["primary"])
    report = audit(made.published(alone, alone), PLAIN)
    assert report.findings.filter(pl.col("rule") == "narrow").height == alone.sum()
    assert (report.by_witness, report.by_solver) == (0, 0)


def columns(values, key="part"):
    """One row per named value and their total, shown or not."""
    return pl.DataFrame({key: [None, *values], "count": [sum(values.values()), *values.values()]})


def row(values, hidden, key="part"):
    layout = Layout(tables=(Table("row", (key,)),))
    rows = long(columns(values, key), layout)
    return layout, rows.with_columns(shown=~pl.col(key).is_in(hidden).fill_null(False))


def seen(rows):
    """Rows as they are read: no value where none is shown."""
    return rows.with_columns(value=pl.when("shown").then("value"))


def bounds(made, rule=PLAIN, key="part"):
    found = intervals(made.published(~made.cells["shown"].to_numpy()), rule)
    names = made.cells[key].fill_null("T")
    return {names[each["cell"]]: [each["low"], each["high"]] for each in found.to_dicts()}


def test_two_releases_that_are_safe_alone_give_a_cell_away_together():
    case = VECTOR["releases"]
    values = {name: case["values"][name] for name in "ABC"}
    layout, first = row(values, case["release1_suppressed"])
    _, second = row(values, case["release2_suppressed"])
    assert bounds(problem([first], layout)) == case["bounds1"]
    assert bounds(problem([second], layout)) == case["bounds2"]
    assert bounds(problem([seen(first), seen(second)], layout)) == case["union_bounds"]
    both = audit_releases([seen(first), seen(second)], layout, Rule(lower=0))
    assert not both.is_passed


def test_a_later_release_is_another_unknown_where_it_changed():
    case = VECTOR["releases"]["later_release"]
    then, now = ({name[0]: case["values"][name] for name in case["values"] if name.endswith(at)} for at in "12")
    then.pop("T"), now.pop("T")
    layout, first = row(then, ["A", "B"])
    _, second = row(now, ["A", "B"])
    linked = problem([first, second], layout)
    found = intervals(linked.published(~linked.cells["shown"].to_numpy()), PLAIN)
    named = linked.cells.select(pl.concat_str(pl.col("part").fill_null("T"), pl.col("version") + 1)).to_series()
    proven = {named[each["cell"]]: [each["low"], each["high"]] for each in found.to_dicts()}
    expected = case["bounds_if_A_known_unchanged"]
    assert proven == {"A1": expected["A1"], "B1": expected["B1"], "B2": expected["B2"]}
    apart = problem([first, second], layout, is_linked=False)
    found = intervals(apart.published(~apart.cells["shown"].to_numpy()), PLAIN)
    named = apart.cells.select(pl.concat_str(pl.col("part").fill_null("T"), pl.col("version") + 1)).to_series()
    assert {named[each["cell"]]: [each["low"], each["high"]] for each in found.to_dicts()} == case["unlinked_bounds"]
    report = audit(linked.published(~linked.cells["shown"].to_numpy()), PLAIN)
    assert "difference" in set(report.findings["rule"]), "the total changed by one"


@pytest.mark.parametrize("case", VECTOR["hierarchy"]["cases"], ids=lambda case: " ".join(case["suppressed"]))
def test_a_hierarchy_gives_away_what_the_vector_says(case):
    values = VECTOR["hierarchy"]["values"]
    layout = Layout(tables=(Table("schools", (), "school_id"),), places=("district_id", "school_id"))
    rows = pl.DataFrame(
        {
            "district_id": [None if name == "S" else name[:2] for name in values],
            "school_id": [name if len(name) == 3 else None for name in values],
            "count": list(values.values()),
        }
    )
    made = problem([long(rows, layout)], layout)
    names = made.cells.select(pl.coalesce("school_id", "district_id")).to_series().fill_null("S")
    hidden = names.is_in(case["suppressed"]).to_numpy()
    found = intervals(made.published(hidden), PLAIN)
    assert {names[each["cell"]]: [each["low"], each["high"]] for each in found.to_dicts()} == case["bounds"]


def test_overlapping_groupings_give_away_what_the_vector_says():
    case = VECTOR["overlap"]
    layout = Layout(tables=(Table("sexes", ("status", "sex")),))
    parts = {"need": ("need", None), "ok": ("ok", None), "all": (None, None), "f": (None, "f"), "m": (None, "m")}
    keys = [parts.get(name) or tuple(name.split("_")) for name in case["values"]]
    rows = pl.DataFrame(keys, schema={"status": pl.String, "sex": pl.String}, orient="row").with_columns(
        count=pl.Series(list(case["values"].values()))
    )
    made = problem([long(rows, layout)], layout)
    names = made.cells.select(pl.format("{}_{}", "status", "sex")).to_series()
    found = intervals(made.published(names.is_in(case["suppressed"]).fill_null(False).to_numpy()), PLAIN)
    assert {names[each["cell"]]: [each["low"], each["high"]] for each in found.to_dicts()} == case["bounds"]


def banded(values, sizes, bands, hidden=()):
    """A total and its parts in bands."""
    layout, rows = row(values, [*bands, *hidden])
    read = band_bounds(pl.Series(list(bands.values())), pl.Series([sizes[name] for name in bands]))
    read = read.with_columns(part=pl.Series(list(bands)))
    return layout, seen(rows).join(read, on="part", how="left")


def test_bands_and_a_total_leave_what_the_vector_says():
    case = VECTOR["banded"]
    values = {name: case["values"][name] for name in case["n"]}
    layout, rows = banded(values, case["n"], {name: case["published"][name] for name in case["n"]})
    assert bounds(problem([rows], layout)) == case["integer_bounds"]
    ranges = band_bounds(pl.Series(list(case["published"].values())[1:]), pl.Series(list(case["n"].values())))
    for (low, high), exact in zip(ranges.rows(), case["ranges"].values(), strict=True):
        assert (low, high) == (int(np.ceil(exact[0])), int(np.floor(exact[1])))


@pytest.mark.parametrize("bands", [safe_bands, nces_bands])
@pytest.mark.parametrize("n", [10, 13, 16, 24, 31, 45, 64, 100, 150, 299, 300, 411])
def test_the_counts_of_a_band_are_read_as_they_were_written(bands, n):
    counts = pl.Series(range(n + 1))
    written = pl.DataFrame({"y": counts, "band": bands(counts, pl.Series([n] * (n + 1)))})
    expected = written.group_by("band", maintain_order=True).agg(low=pl.col("y").min(), high=pl.col("y").max())
    read = band_bounds(expected["band"], pl.Series([n] * len(expected)))
    assert read.rows() == expected.select("low", "high").rows()


def rules(report):
    return set(report.findings["rule"])


def test_a_margin_that_should_be_withheld_is_caught():
    made = vector_table()
    pattern = suppress(made, PLAIN)
    shown = pattern.withheld & (names(made) != "s1.g6").fill_null(True).to_numpy()
    report = audit(made.published(shown, pattern.is_primary), PLAIN)
    assert not report.is_passed and "narrow" in rules(report)
    assert "value" not in report.findings.columns


def test_a_band_that_is_too_fine_is_caught():
    values, sizes = {"s1": 3, "s2": 20, "s3": 40}, {"s1": 10, "s2": 60, "s3": 90}
    for word, passes in (("21-39%", False), ("<50%", True)):
        layout, rows = banded(values, sizes, {"s1": word, "s2": "30-39%", "s3": "40-49%"})
        made = problem([rows.with_columns(is_primary=(pl.col("part") == "s1").fill_null(False))], layout)
        report = audit(made.published(~made.cells["shown"].to_numpy(), made.cells["is_primary"].to_numpy()), PLAIN)
        assert report.is_passed == passes


def test_a_small_number_that_is_shown_is_caught():
    layout, rows = row({"A": 12, "B": 7, "C": 30}, [])
    assert rules(audit(problem([rows], layout).published(np.zeros(4, bool)), Rule())) == {"small"}


def test_a_small_rest_is_caught():
    layout, rows = row({"A": 4, "B": 3, "C": 30, "D": 1}, ["A", "B", "D"])
    made = problem([rows], layout)
    assert "remainder" in rules(audit(made.published(~made.cells["shown"].to_numpy()), PLAIN))


def test_tables_that_contradict_one_another_are_refused():
    layout, rows = row({"A": 12, "B": 17}, ["A"])
    wrong = rows.with_columns(value=pl.when(pl.col("part").is_null()).then(5).otherwise("value"))
    report = audit(problem([seen(wrong)], layout).published(~problem([wrong], layout).cells["shown"].to_numpy()), PLAIN)
    assert rules(report) == {"contradiction"}


@pytest.mark.parametrize("seed", range(12))
def test_intervals_are_those_of_every_table_there_is(seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 6, (2, 3))
    finest = pl.DataFrame(
        {"row": np.repeat(["a", "b"], 3), "column": np.tile(["x", "y", "z"], 2), "count": counts.ravel()}
    )
    made = problem([long(aggregated(finest, GRID), GRID)], GRID)
    hidden = np.isin(np.arange(len(made.cells)), rng.choice(len(made.cells), 5, replace=False))
    value = made.cells["value"].to_numpy()
    low, high = np.where(hidden, np.maximum(value - 6, 0), value), np.where(hidden, value + 6, value)
    bounded = made.cells.with_columns(low=pl.Series(low), high=pl.Series(high))
    found = intervals(replace(made, cells=bounded).published(hidden), PLAIN)
    tables = every_table(made.relations, low, high)
    assert found.rows() == [(int(at), tables[:, at].min(), tables[:, at].max()) for at in np.flatnonzero(hidden)]


TWO_WAYS = Layout(
    (Table("grades", ("grade",), "school_id"), Table("groups", ("group",), "school_id")),
    places=("district_id", "school_id"),
    students="n",
    counts=("x", "y", "z"),
)


def random_bands(seed):
    """Two districts of two schools, n known and every count within a random band."""
    rng = np.random.default_rng(seed)
    finest = pl.DataFrame(
        {
            "district_id": np.repeat(["a", "b"], 8),
            "school_id": np.repeat(["a1", "a2", "b1", "b2"], 4),
            "grade": np.tile(["3", "3", "4", "4"], 4),
            "group": np.tile(["p", "q"], 8),
            **{name: rng.integers(0, 5, 16) for name in TWO_WAYS.counts},
        }
    ).with_columns(n=pl.sum_horizontal(TWO_WAYS.counts))
    made = problem([long(aggregated(finest, TWO_WAYS), TWO_WAYS)], TWO_WAYS)
    value, is_whole = made.cells["value"].to_numpy(), (made.cells["kind"] == "students").to_numpy()
    width = rng.integers(1, 4)
    low, high = np.maximum(value - rng.integers(0, width + 1, len(value)), 0), value.copy()
    high += rng.integers(0, width + 1, len(value))
    bounds = {
        "low": pl.Series(np.where(is_whole, value, low)),
        "high": pl.Series(np.where(is_whole, value, high)),
    }
    return replace(made, cells=made.cells.with_columns(**bounds)).published(np.ones(len(value), bool), ~is_whole)


@pytest.mark.parametrize(("seed", "asked"), [(0, False), (49, True), (100, True)])
def test_bands_are_too_narrow_where_the_integer_programme_says_so(seed, asked):
    made = random_bands(seed)
    report = audit(made, PLAIN)
    of = made.cells.with_row_index("cell", 0).with_columns(pl.col("cell").cast(pl.Int64))
    exact = intervals(made, PLAIN).join(of.select("cell", *TWO_WAYS.keys, "statistic", "kind"), on="cell")
    narrow = exact.filter(pl.col("high") - pl.col("low") < PLAIN.c_min - 1, pl.col("kind") != "students")
    found = report.findings.filter(pl.col("rule") == "narrow")
    keys = [*TWO_WAYS.keys, "statistic"]
    assert set(found.select(keys).rows()) == set(narrow.select(keys).rows())
    assert (report.by_solver > 0) == asked, "some are neither told by subtraction nor opened by a witness"
    attack = _Attack(made, PLAIN)
    attack.begin(None)
    at_home = {int(cell) for cell in np.flatnonzero(attack.need) if attack.is_narrow_at_home(int(cell))}
    assert at_home <= set(narrow["cell"])
    assert not asked or at_home, "what a place proves by itself is told apart"


NYC = SAMPLES / "nyc_math_suppressed" / "math_test_results_staten_island.csv.gz"
LEVELS = ("level_1", "level_2", "level_3", "level_4")


@pytest.fixture(scope="module")
def real_file():
    """School by grade and year with all-grades totals; levels withheld where 1 to 5 were tested."""
    read = pl.read_csv(NYC, infer_schema=False)
    levels = {name: pl.col(f"Level {name[-1]} #").cast(pl.Int64, strict=False) for name in LEVELS}
    return read.select(
        school_id="DBN",
        school_year="Year",
        grade=pl.when(pl.col("Grade") != "All Grades").then("Grade"),
        tested=pl.col("Number Tested").cast(pl.Int64),
        **levels,
    )


SCHOOLS = Layout((Table("grades", ("grade",)),), apart=("school_id", "school_year"), students="tested", counts=LEVELS)


@pytest.mark.slow
@pytest.mark.skipif(not NYC.exists(), reason="the file is others' and lies outside the repository")
def test_the_audit_finds_what_one_subtraction_gives_back_in_a_real_file_and_mode_b_leaves_none(real_file):
    layout = SCHOOLS
    rows = long(real_file, layout)
    made = problem([rows.with_columns(shown=pl.col("value").is_not_null())], layout)
    seen_by_all = made.published(~made.cells["shown"].to_numpy())
    report = audit(seen_by_all, Rule(min_n=6, min_category=6, lower=0))
    alone = (
        real_file.filter(pl.col("grade").is_not_null())
        .group_by("school_id", "school_year")
        .agg(pl.col("level_1").is_null().sum().alias("withheld"), pl.col("grade").filter(pl.col("level_1").is_null()))
        .filter(pl.col("withheld") == 1)
        .explode("grade")
        .join(
            real_file.filter(pl.col("grade").is_null() & pl.col("level_1").is_not_null()),
            on=["school_id", "school_year"],
        )
    )
    assert len(alone) > 0
    narrow = report.findings.filter(pl.col("rule") == "narrow")
    assert len(alone.join(narrow, on=["school_id", "school_year", "grade"], how="anti")) == 0

    exact = intervals(seen_by_all, Rule(lower=0)).filter(pl.col("low") == pl.col("high")).select("cell", back="low")
    values = made.cells.with_row_index("cell").cast({"cell": pl.Int64}).join(exact, on="cell", how="left")
    full = (
        values.with_columns(pl.coalesce("value", "back").alias("value"))
        .pivot("statistic", index=["school_id", "school_year", "grade"], values="value")
        .filter(pl.all_horizontal(pl.col(LEVELS).is_not_null()).all().over("school_id", "school_year"))
    )
    assert len(full) > 1000
    again = problem([long(full, layout)], layout)
    pattern = suppress(again, Rule())
    assert audit(again.published(pattern.withheld, pattern.is_primary), Rule()).is_passed
