"""Who is in which class, who of them was tested, and which school-grades are in scope."""

from collections.abc import Mapping
from fractions import Fraction

import polars as pl

from schemas.policy import GRADES, DistrictPolicy
from schemas.projections import SEASONS
from transforms.cuts import rules_in_force
from transforms.poisson_binomial import at_least

WINDOW = ("district_id", "school_year", "benchmark_window")
CLASS = (*WINDOW, "class_id")
SCHOOL_GRADE = (*WINDOW, "measure", "school_id", "grade")
DISTRICT_GRADE = (*WINDOW, "measure", "grade")
RECOMMENDED = ("tier_2", "tier_3")
WITH_ERROR = ("sem", "sem_default", "kelley")
"""Bases of a probability that is more than what was observed."""
BASE_RATE_OF = 10_000

_SHARES = (
    "tau",
    "tau_low",
    "severe",
    "participation_expected",
    "coverage_minimum",
    "school_coverage_minimum",
    "scope_share",
    "scope_peers",
    "high_share",
    "low_coverage_share",
)
_NUMBERS = (
    "class_minimum",
    "false_discovery",
    "flag_probability",
    "watch_probability",
    "system_probability",
    "outlier_probability",
    "excess",
    "excess_probability",
    "fixed_mean",
    "fixed_strength",
    "matched_minimum",
    "band_minimum",
    "growth_tail",
)
_CHOICES = ("prior", "fdr")
_LETTERS = [chr(65 + i) for i in range(26)]
_CLASS_LETTERS = pl.Series(_LETTERS + [first + second for first in _LETTERS for second in _LETTERS])


class UnknownDistrict(Exception):
    """Rows of a district that has no policy."""


def season_rank() -> pl.Expr:
    """0 fall, 1 winter, 2 spring."""
    return pl.col("benchmark_window").replace_strict(SEASONS, range(len(SEASONS)), return_dtype=pl.Int8)


def share(part: str, whole: str) -> pl.Expr:
    """Part of whole; null where the whole is nobody."""
    return pl.when(pl.col(whole) > 0).then(pl.col(part) / pl.col(whole))


def class_rules(policies: Mapping[str, DistrictPolicy]) -> pl.DataFrame:
    """The class rule of each district, one row each; shares also as integers, `_parts` of `_of`."""
    rules = [policy.classes for policy in policies.values()]
    made: dict[str, pl.Series] = {"district_id": pl.Series(list(policies), dtype=pl.String)}
    for name in ("tau", *_NUMBERS):
        made[name] = pl.Series([getattr(rule, name) for rule in rules], dtype=pl.Float64)
    for name in _CHOICES:
        made[f"{name}_rule"] = pl.Series([getattr(rule, name) for rule in rules], dtype=pl.String)
    for name in _SHARES:
        exact = [Fraction(getattr(rule, name)).limit_denominator(10_000) for rule in rules]
        made[f"{name}_parts"] = pl.Series([each.numerator for each in exact], dtype=pl.Int64)
        made[f"{name}_of"] = pl.Series([each.denominator for each in exact], dtype=pl.Int64)
    return pl.DataFrame(made)


def with_rules(rows: pl.DataFrame, policies: Mapping[str, DistrictPolicy]) -> pl.DataFrame:
    """The rows, each with its district's class rule.

    Raises:
        UnknownDistrict: a district has no policy.
    """
    unknown = sorted(set(rows["district_id"].unique()) - set(policies))
    if unknown:
        raise UnknownDistrict(f"No policy for district {', '.join(unknown)}. Add policy/<district>.toml for each.")
    return rows.join(class_rules(policies), on="district_id")


def reaches(part: pl.Expr, whole: pl.Expr, rule: str) -> pl.Expr:
    """part / whole >= the rule's share, in integers: exactly 20 % is 20 %."""
    return part * pl.col(f"{rule}_of") >= whole * pl.col(f"{rule}_parts")


def exceeds(part: pl.Expr, whole: pl.Expr, rule: str) -> pl.Expr:
    """part / whole > the rule's share, in integers."""
    return part * pl.col(f"{rule}_of") > whole * pl.col(f"{rule}_parts")


def with_need_cuts(rows: pl.DataFrame, policies: Mapping[str, DistrictPolicy]) -> pl.DataFrame:
    """Add the cuts in force by name, and to whom tau does not apply: the knob `norm_adjust` (METHOD 0.1).

    Where the class-need cut puts at least tau of an average class in need and the district says `norm_adjust`, tau is
    that base rate and ``is_norm_adjusted`` is true: the class is judged against an average class.

    Args:
        rows: Classes with ``measure``, ``grade``, ``reference_on`` and their district's class rule.
        policies: Policy of each district.
    """
    case = [*DISTRICT_GRADE, "reference_on"]
    names = ["need_cut", "recommended_cut", "base_rate", "class_need_below"]
    cuts = rules_in_force(rows.lazy().select(case).unique(), policies).select(*case, *names, cut_by="by").collect()
    base = (pl.col("base_rate") * BASE_RATE_OF).round().cast(pl.Int64)
    is_adjusted = (base * pl.col("tau_of") > BASE_RATE_OF * pl.col("tau_parts")).fill_null(value=False)
    return (
        rows.join(cuts, on=case, how="left", nulls_equal=True)
        .with_columns(is_norm_adjusted=is_adjusted)
        .with_columns(
            tau=pl.when("is_norm_adjusted").then("base_rate").otherwise("tau"),
            tau_parts=pl.when("is_norm_adjusted").then(base).otherwise("tau_parts"),
            tau_of=pl.when("is_norm_adjusted").then(BASE_RATE_OF).otherwise("tau_of"),
        )
        .drop("base_rate")
    )


def counted_tests(memberships: pl.LazyFrame, needs: pl.LazyFrame) -> pl.LazyFrame:
    """Tests that count in a class: those whose need the rule can tell, of members who are counted."""
    is_out = pl.any_horizontal(pl.col("is_mobile", "is_alternate_assessment").fill_null(value=False))
    members = memberships.filter(pl.col("class_id").is_not_null(), pl.col("school_id").is_not_null(), ~is_out)
    return members.join(needs.filter(pl.col("is_in_need").is_not_null()), on=[*WINDOW, "subject_key"], suffix="_tested")


def class_sensitivity(memberships: pl.LazyFrame, needs: pl.LazyFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """What measurement error alone does to a class's count (METHOD 1.3): shown beside the decision, never part of it.

    Each tested student is in need with the probability of the test's own error; the number in need is Poisson-binomial.
    Both are null where no test of the class has an error, or one has no probability.

    Args:
        memberships: ``ClassMembership`` rows.
        needs: ``NeedLevel`` rows.
        rows: Classes and measures with ``tested``, ``tau_parts`` and ``tau_of``.

    Returns:
        One row per class and measure with a counted test: `CLASS`, `measure`, `expected_in_need` (students) and
        `p_above_with_error`, the probability that the true share is strictly above tau.
    """
    key = [*CLASS, "measure"]
    has_error = pl.col("probability_basis").is_in(WITH_ERROR).any().over("class")
    least = pl.col("tested") * pl.col("tau_parts") // pl.col("tau_of") + 1
    asked = rows.select(*key, least=least).with_row_index("class")
    tests = (
        counted_tests(memberships, needs)
        .select(*key, "probability_basis", "p_class_need")
        .join(asked.lazy(), on=key)
        .with_columns(is_known=has_error & pl.col("p_class_need").is_not_null().all().over("class"))
        .select("class", "least", "is_known", "p_class_need")
        .collect(engine="streaming")
    )
    found = at_least(tests.filter("is_known"), ["class"], "p_class_need", "least")
    return (
        asked.join(tests, on="class", how="semi")
        .sort(key)
        .join(found, on="class", how="left", maintain_order="left")
        .select(*key, expected_in_need="expected", p_above_with_error="p_at_least")
    )


def count_classes(memberships: pl.LazyFrame, needs: pl.LazyFrame) -> pl.LazyFrame:
    """Members, tested, in need and medians of each class; every class of a window for every measure given in it."""
    members = memberships.filter(pl.col("class_id").is_not_null(), pl.col("school_id").is_not_null()).with_columns(
        is_mobile=pl.col("is_mobile").fill_null(value=False),
        is_counted=~(
            pl.col("is_mobile").fill_null(value=False) | pl.col("is_alternate_assessment").fill_null(value=False)
        ),
    )
    results = (
        counted_tests(memberships, needs)
        .group_by(*CLASS, "measure")
        .agg(
            tested=pl.len().cast(pl.Int64),
            in_need=pl.col("is_in_need").sum().cast(pl.Int64),
            recommended=pl.col("need_level").is_in(RECOMMENDED).sum().cast(pl.Int64),
            median_percentile=pl.col("percentile").median(),
            median_score=pl.col("score").median(),
        )
    )
    return (
        describe_classes(members)
        .join(results.select(*WINDOW, "measure").unique(), on=WINDOW)
        .join(results, on=[*CLASS, "measure"], how="left")
        .with_columns(pl.col("tested", "in_need", "recommended").fill_null(0))
    )


def describe_classes(members: pl.LazyFrame) -> pl.LazyFrame:
    """Each class of each window: school, grade of most members (ties: the lower), section, sizes and label.

    A label belongs to the year: its grade is that of the class's first window, and its letter counts the classes
    of that school and grade by first window, then class id, so that a class opened in winter renames no other.
    """
    sizes = members.group_by(CLASS).agg(
        school_id=pl.col("school_id").min(),
        section_type=pl.col("section_type").min().fill_null("regular"),
        reference_on=pl.col("reference_on").min(),
        enrolled=pl.col("is_counted").sum().cast(pl.Int64),
        mobile=pl.col("is_mobile").sum().cast(pl.Int64),
    )
    grade_rank = pl.col("grade").replace_strict(GRADES, range(len(GRADES)), default=len(GRADES), return_dtype=pl.Int8)
    grades = (
        members.filter(pl.col("grade").is_not_null())
        .group_by(*CLASS, "grade")
        .agg(students=pl.len())
        .sort(pl.col("students"), grade_rank, "grade", descending=[True, False, False])
        .unique(CLASS, keep="first", maintain_order=True)
        .drop("students")
    )
    classes = sizes.join(grades, on=CLASS, how="left")
    year = ("district_id", "school_year", "class_id")
    alike = ("district_id", "school_year", "school_id", "grade")
    letter = pl.lit(_CLASS_LETTERS).gather(pl.min_horizontal("place", len(_CLASS_LETTERS) - 1))
    labels = (
        classes.with_columns(first=season_rank())
        .sort("first")
        .unique(year, keep="first", maintain_order=True)
        .sort("first", "class_id")
        .with_columns(place=pl.int_range(pl.len()).over(alike))
        .with_columns(
            class_label=pl.when(pl.col("grade").is_null())
            .then(pl.format("Class {}", letter))
            .otherwise(pl.format("Grade {}, class {}", "grade", letter))
        )
    )
    return classes.join(labels.select(*year, "class_label"), on=year)


def in_scope(rows: pl.DataFrame) -> pl.DataFrame:
    """Keep the school-grades of SEMANTICS 7.3: those with results, and those whose peers have results."""
    has_results = (pl.col("grade_enrolled") > 0) & reaches(
        pl.col("grade_results"), pl.col("grade_enrolled"), "scope_share"
    )
    schools = (
        rows.group_by(SCHOOL_GRADE)
        .agg(
            pl.col("^scope_.*$").first(),
            grade_enrolled=pl.col("enrolled").sum(),
            grade_results=pl.col("tested").sum(),
        )
        .with_columns(has_results=has_results)
        .with_columns(
            peers=pl.len().over(DISTRICT_GRADE).cast(pl.Int64) - 1,
            peers_with_results=pl.col("has_results").sum().over(DISTRICT_GRADE).cast(pl.Int64)
            - pl.col("has_results").cast(pl.Int64),
        )
    )
    with_peers = (pl.col("peers") > 0) & reaches(pl.col("peers_with_results"), pl.col("peers"), "scope_peers")
    kept = schools.filter(pl.col("has_results") | with_peers)
    return rows.join(kept.select(*SCHOOL_GRADE, "grade_enrolled", "grade_results"), on=SCHOOL_GRADE, nulls_equal=True)
