"""Topics: in which strands of a test a class is in need, and in how many (METHOD 3.10)."""

from collections.abc import Mapping

import polars as pl

from schemas.contract import columns
from schemas.policy import DistrictPolicy
from schemas.projections import ClassTopic
from transforms.classes import CLASS, WINDOW, reaches, with_rules
from transforms.intervals import jeffreys, p_above
from transforms.persistence import CANNOT_SAY

KEY = [*CLASS, "measure"]
_STUDENT = [*WINDOW, "subject_key"]
_CASE = [*WINDOW, "measure", "grade"]
_SEPARATOR = "; "


def class_topics(
    memberships: pl.LazyFrame,
    screening: pl.LazyFrame,
    decisions: pl.LazyFrame,
    policies: Mapping[str, DistrictPolicy],
) -> pl.DataFrame:
    """How many of each class are in need in each strand, and the probability that more than tau are.

    Counted are the members the class rule counts, by their chosen test. The probability is Jeffreys': strands of one
    test are no sample of anything. It is null where the class cannot be judged, or the strand has too few of its
    members for the rule about a class.

    Args:
        memberships: ``ClassMembership`` rows.
        screening: ``ScreeningResult`` rows.
        decisions: ``ClassDecision`` rows of these windows.
        policies: Policy of each district.

    Returns:
        ``ClassTopic`` rows without ``input_id``; a strand nobody's need is known in makes none.
    """
    classes = decisions.select(*KEY, "school_id", "grade", "enrolled", "level").with_row_index("class").cache()
    counts = (
        _strand_needs(screening, memberships, classes, policies)
        .filter(pl.col("is_in_need").is_not_null())
        .group_by("class", "strand")
        .agg(tested=pl.len().cast(pl.Int64), in_need=pl.col("is_in_need").sum().cast(pl.Int64))
        .join(classes, on="class")
        .with_columns(pl.col("strand").cast(pl.String))
        .collect()
    )
    rows = with_rules(counts, policies)
    low, high = jeffreys(rows["in_need"], rows["tested"])
    chance = p_above(rows["in_need"], rows["tested"], rows["tau"])
    is_judged = (
        ~pl.col("level").is_in(CANNOT_SAY)
        & (pl.col("tested") >= pl.col("class_minimum"))
        & reaches(pl.col("tested"), pl.col("enrolled"), "coverage_minimum")
    )
    return (
        rows.with_columns(
            need_share=pl.col("in_need") / pl.col("tested"),
            # Nine decimals: what a vector unit does to the last bit depends on where in an array a row stands.
            interval_low=pl.Series(low.round(9), dtype=pl.Float64),
            interval_high=pl.Series(high.round(9), dtype=pl.Float64),
            p_above=pl.Series(chance.round(9), dtype=pl.Float64),
        )
        .with_columns(p_above=pl.when(is_judged).then("p_above"))
        .with_columns(is_topic=pl.col("p_above") >= pl.col("flag_probability"))
        .sort(*KEY, "strand")
        .select(pl.col(name).cast(dtype) for name, dtype in columns(ClassTopic).items() if name != "input_id")
    )


def topic_breadth(topics: pl.DataFrame) -> pl.DataFrame:
    """In how many strands each class is in need: `KEY`, `topic_breadth` and the names, in order, as `topics`.

    none, one, several, or most: more than half of the strands judged, and more than one; unknown where none is judged.
    """
    judged, found = pl.col("is_topic").is_not_null().sum(), pl.col("is_topic").fill_null(value=False).sum()
    return (
        topics.group_by(KEY)
        .agg(
            judged=judged.cast(pl.Int64),
            found=found.cast(pl.Int64),
            topics=pl.col("strand").filter(pl.col("is_topic")).sort().str.join(_SEPARATOR),
        )
        .select(
            *KEY,
            topic_breadth=pl.when(pl.col("judged") == 0)
            .then(pl.lit("unknown"))
            .when(pl.col("found") == 0)
            .then(pl.lit("none"))
            .when(pl.col("found") == 1)
            .then(pl.lit("one"))
            .when(2 * pl.col("found") > pl.col("judged"))
            .then(pl.lit("most"))
            .otherwise(pl.lit("several")),
            topics=pl.when(pl.col("found") > 0).then("topics"),
        )
        .sort(KEY)
    )


def with_topics(decisions: pl.DataFrame, topics: pl.DataFrame) -> pl.DataFrame:
    """Decisions with `topic_breadth` and `topics`; a class without strands is unknown."""
    return decisions.join(topic_breadth(topics), on=KEY, how="left", maintain_order="left").with_columns(
        pl.col("topic_breadth").fill_null("unknown")
    )


def _strand_needs(
    screening: pl.LazyFrame, memberships: pl.LazyFrame, classes: pl.LazyFrame, policies: Mapping[str, DistrictPolicy]
) -> pl.LazyFrame:
    """Whether each chosen test shows need in each of its strands, by the first rule that fits.

    A score cut needs the strand's score, else the vendor's label of the strand decides; a label no rule names, or
    none, leaves null. A strand named twice in a test counts once, as the vendor names it first.

    Args:
        screening: ``ScreeningResult`` rows.
        memberships: ``ClassMembership`` rows; say who counts, the grade where the test has none, and the day.
        classes: `KEY` and the number of the `class`.
        policies: Policy of each district.

    Returns:
        One row per test of a class and strand: `class`, `strand` and `is_in_need`.
    """
    # Strands make many rows: a number stands for the test, its class and what decides its rule.
    tests = (
        screening.filter("is_chosen", pl.col("benchmark_window").is_not_null(), pl.col("strands").list.len() > 0)
        .select(*_STUDENT, "measure", "grade", "strands")
        .with_row_index("test")
        .cache()
    )
    placed = _placed(tests.drop("strands"), memberships, classes).cache()
    days = memberships.group_by(WINDOW).agg(reference_on=pl.col("reference_on").min())
    cases = placed.select(_CASE).unique().join(days, on=WINDOW, how="left").with_row_index("case").cache()
    strands = (
        tests.select("test", "strands")
        .explode("strands")
        .unnest("strands")
        .select(
            *("test", "score"),
            strand=pl.col("strand").str.strip_chars().cast(pl.Categorical),
            label=pl.col("label").cast(pl.Categorical),
        )
        .filter(pl.col("strand").is_not_null())
        .unique(["test", "strand"], keep="first", maintain_order=True)
        .join(placed.join(cases, on=_CASE, nulls_equal=True).select("test", "class", "case"), on="test")
        .cache()
    )
    rules, labels = _rules(policies)
    name = pl.col("strand").cast(pl.String).str.to_lowercase()
    fits = (
        ((pl.col("grades").list.len() == 0) | pl.col("grades").list.contains(pl.col("grade")))
        & ((pl.col("names").list.len() == 0) | pl.col("names").list.contains(name))
        & (pl.col("valid_from") <= pl.col("reference_on")).fill_null(True)
    )
    said = ["case", "strand", "label"]
    in_force = (
        strands.select(said)
        .unique()
        .join(cases, on="case")
        .join(rules, on=["district_id", "measure"])
        .filter(fits.fill_null(value=False))
        .sort("rule_order")
        .unique(said, keep="first", maintain_order=True)
        .with_columns(vendor_label=pl.col("label").cast(pl.String).str.strip_chars().str.to_lowercase())
        .join(labels, on=["district_id", "rule_order", "vendor_label"], how="left")
        .select(*said, "below", "is_label_need")
    )
    by_score = pl.when(pl.col("below").is_not_null()).then(pl.col("score") < pl.col("below")).otherwise("is_label_need")
    return strands.join(in_force, on=said, nulls_equal=True).select("class", "strand", is_in_need=by_score)


def _placed(tests: pl.LazyFrame, memberships: pl.LazyFrame, classes: pl.LazyFrame) -> pl.LazyFrame:
    """Of the tests those of members who count in a class: `test`, `class` and `_CASE`."""
    is_out = pl.any_horizontal(pl.col("is_mobile", "is_alternate_assessment").fill_null(value=False))
    members = memberships.filter(pl.col("class_id").is_not_null(), ~is_out)
    return (
        tests.join(members.select(*_STUDENT, "class_id", member_grade="grade"), on=_STUDENT)
        .join(classes.select(*KEY, "class"), on=KEY)
        .select("test", "class", *WINDOW, "measure", grade=pl.coalesce("grade", "member_grade"))
    )


def _rules(policies: Mapping[str, DistrictPolicy]) -> tuple[pl.LazyFrame, pl.LazyFrame]:
    """Strand rules in order, and the labels each names."""
    ordered = [
        (district, order, rule)
        for district, policy in sorted(policies.items())
        for order, rule in enumerate(policy.all_strands)
    ]
    rules = [
        (
            district,
            each.measure,
            order,
            each.valid_from,
            list(each.grades),
            [s.lower() for s in each.strands],
            each.below,
        )
        for district, order, each in ordered
    ]
    labels = [
        (d, order, label, in_need) for d, order, each in ordered for label, in_need in sorted(each.labels.items())
    ]
    return (
        pl.LazyFrame(
            rules,
            schema={
                "district_id": pl.String,
                "measure": pl.String,
                "rule_order": pl.Int32,
                "valid_from": pl.Date,
                "grades": pl.List(pl.String),
                "names": pl.List(pl.String),
                "below": pl.Float64,
            },
            orient="row",
        ),
        pl.LazyFrame(
            labels,
            schema={
                "district_id": pl.String,
                "rule_order": pl.Int32,
                "vendor_label": pl.String,
                "is_label_need": pl.Boolean,
            },
            orient="row",
        ),
    )
