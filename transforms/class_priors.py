"""The prior of each class and what follows from it: the one place that knows how classes learn from each other.

Which prior (SEMANTICS 7.5): the two-level one of the district's grade; in a home with other districts the two-level
one of all of them; the one-level one; the pooled rate. A remedial or advanced section is judged alone, under Jeffreys'.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import special

from transforms import priors, two_level
from transforms.classes import DISTRICT_GRADE, SCHOOL_GRADE, WINDOW
from transforms.intervals import p_above, p_greater, tail_at_least
from transforms.priors import ClassCounts

CLASSES_TO_FIT, SCHOOLS_TO_FIT = 8, 3
"""Evaluable classes a fit needs, and schools for a fit of two levels (METHOD 3.9)."""
CLASSES_OF_A_GRADE = 3
"""With fewer evaluable classes the pooled rate is that of all grades (METHOD 3.3)."""
POOLED_STRENGTH = 10.0
"""Strength, in students, given to a pooled rate (METHOD 3.3)."""
NETWORK = ("school_year", "benchmark_window", "measure", "grade", "need_cut")
"""Classes of one home that may learn from each other: districts that cut at different points never do."""
_DIGITS = 9

ON_CLASS = {
    "posterior_mean": pl.Float64,
    "p_above": pl.Float64,
    "p_above_if_all_tested": pl.Float64,
    "p_above_peers": pl.Float64,
    "p_excess": pl.Float64,
    "p_grade_above": pl.Float64,
    "p_tail": pl.Float64,
    "reliability": pl.Float64,
    "prior": pl.String,
    "prior_from": pl.String,
    "prior_mean": pl.Float64,
    "prior_strength": pl.Float64,
    "school_strength": pl.Float64,
    "at_bound": pl.Boolean,
    "overdispersion_z": pl.Float64,
}
"""What a prior adds to a class; ``school_strength``, ``p_excess`` only where there are two levels."""


def with_posteriors(rows: pl.DataFrame, network: pl.DataFrame | None = None) -> pl.DataFrame:
    """Add ``ON_CLASS`` to every class; null where the class is not evaluable.

    Results do not depend on the order of rows, on class ids, or on other districts among the rows.

    Args:
        rows: Classes marked by ``pool``, with their cut and rule.
        network: What ``network_priors`` found over all districts of the home; absent: nothing is borrowed.
    """
    rows = rows.with_row_index("row")
    alone = rows.filter(~pl.col("is_regular"), pl.col("is_evaluable"))
    found = pl.concat([_pooled_posteriors(rows.filter("is_pooled"), network), _alone(alone)])
    grades = (
        found.filter(pl.col("prior") == "two_level")
        .join(rows.select("row", *SCHOOL_GRADE), on="row")
        .group_by(SCHOOL_GRADE)
        .agg(p_school=pl.col("p_grade_above").first())
    )
    told = rows["grade_tested"] > 0
    pooled = rows.filter(told).select(
        "row", p_pool=_rounded(p_above(*(rows.filter(told)[c] for c in ("grade_in_need", "grade_tested", "tau"))))
    )
    return (
        rows.join(found.drop("p_grade_above"), on="row", how="left")
        .join(grades, on=SCHOOL_GRADE, how="left", nulls_equal=True)
        .join(pooled, on="row", how="left")
        .with_columns(p_grade_above=pl.coalesce("p_school", "p_pool"))
        .drop("row", "p_school", "p_pool")
    )


def network_priors(classes: pl.DataFrame) -> pl.DataFrame:
    """Fit the two-level prior over all districts of a home, for districts too small to fit their own.

    One row per ``NETWORK`` group with enough evaluable classes and schools in at least two districts: its
    parameters, and how many `classes`, `schools` and `districts` stand behind them. The rows and their digits
    depend on the classes only, not on their order, so the frame can be hashed.

    Args:
        classes: ``ClassDecision`` rows of every district of the home, or ``evaluable_classes``; each class once.
    """
    groups = [*NETWORK, "district_id", "school_id"]
    rows = classes.filter("is_evaluable", pl.col("section_type") == "regular").sort(*groups, "in_need", "tested")
    enough = (
        (pl.len().over(NETWORK) >= CLASSES_TO_FIT)
        & (pl.struct("district_id", "school_id").n_unique().over(NETWORK) >= SCHOOLS_TO_FIT)
        & (pl.col("district_id").n_unique().over(NETWORK) > 1)
    )
    rows = rows.filter(enough)
    keys = rows.group_by(NETWORK, maintain_order=True).agg(
        tau=pl.col("tau").first(),
        classes=pl.len().cast(pl.Int64),
        schools=pl.struct("district_id", "school_id").n_unique().cast(pl.Int64),
        districts=pl.col("district_id").n_unique().cast(pl.Int64),
    )
    y, n, tau = (rows[name].to_numpy() for name in ("in_need", "tested", "tau"))
    # Who is enrolled and what is excess changes nothing about the parameters.
    counts, excess = ClassCounts(y, n, n, n, tau), np.zeros(len(keys))
    fitted, _ = two_level.fit(_in_schools(rows, counts, NETWORK, groups, keys["tau"].to_numpy(), excess))
    return keys.drop("tau").with_columns(
        prior_mean=pl.Series(fitted.mean),
        prior_strength=pl.Series(fitted.class_strength),
        school_strength=pl.Series(fitted.school_strength),
        at_bound=pl.Series(fitted.at_bound),
    )


def borrowers(classes: pl.DataFrame, network: pl.DataFrame) -> pl.DataFrame:
    """What each district too small to fit its own two levels finds in ``network``: one row per district and group.

    Args:
        classes: As for ``network_priors``.
        network: Its result.
    """
    rows = classes.filter("is_evaluable", pl.col("section_type") == "regular")
    small = (pl.len() < CLASSES_TO_FIT) | (pl.col("school_id").n_unique() < SCHOOLS_TO_FIT)
    return (
        rows.group_by("district_id", *NETWORK)
        .agg(is_small=small)
        .filter("is_small")
        .drop("is_small")
        .join(network, on=NETWORK, nulls_equal=True)
    )


class _Part(NamedTuple):
    """Classes of one kind of prior in order of group and school, and their groups."""

    rows: pl.DataFrame
    groups: pl.DataFrame

    @property
    def begins(self) -> NDArray[np.intp]:
        return np.flatnonzero(np.r_[True, np.diff(self.rows["group"].to_numpy()) != 0])

    @property
    def tested(self) -> ClassCounts:
        return _tested(self.rows)

    def spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """A value of each group for each of its classes."""
        return np.repeat(values, np.diff(np.append(self.begins, len(self.rows))))


def _tested(rows: pl.DataFrame) -> ClassCounts:
    limit = rows["enrolled"] * rows["tau_parts"] // rows["tau_of"]
    y, n, enrolled, most, tau = (
        each.to_numpy() for each in (rows["in_need"], rows["tested"], rows["enrolled"], limit, rows["tau"])
    )
    return ClassCounts(y, n, enrolled, most, tau)


def _pooled_posteriors(pooled: pl.DataFrame, network: pl.DataFrame | None) -> pl.DataFrame:
    pooled = pooled.sort(*DISTRICT_GRADE, "school_id", "in_need", "tested", "enrolled")
    pooled = pooled.with_columns(group=pl.struct(DISTRICT_GRADE).rle_id())
    groups = _choose(pooled, network)
    made = []
    for prior, prior_from, judged in _KINDS:
        kind = groups.filter(pl.col("prior") == prior, pl.col("prior_from") == prior_from).sort("group")
        if kind.is_empty():
            continue
        part = _Part(pooled.join(kind.select("group"), on="group", how="semi", maintain_order="left"), kind)
        found = judged(part) | {
            "p_tail": tail_at_least(*(part.rows[c] for c in ("in_need", "tested", "tau"))),
            "overdispersion_z": part.spread(priors.tarone(part.rows["in_need"], part.rows["tested"], part.begins)),
        }
        made.append(_frame(part.rows, found, prior, prior_from))
    return pl.concat([_frame(pooled.clear(), {}, "", ""), *made])


def _choose(pooled: pl.DataFrame, network: pl.DataFrame | None) -> pl.DataFrame:
    """The kind of prior of each district's grade, with what it borrows or pools."""
    sums = {"in_need": pl.col("in_need").sum(), "tested": pl.col("tested").sum()}
    groups = pooled.group_by("group").agg(
        *(pl.col(c).first() for c in (*DISTRICT_GRADE, "need_cut", "prior_rule", "tau", "excess")),
        *(pl.col(c).first() for c in ("fixed_mean", "fixed_strength")),
        classes=pl.len(),
        schools=pl.col("school_id").n_unique(),
        **sums,
    )
    whole = pooled.group_by(*WINDOW, "measure").agg(all_in_need=sums["in_need"], all_tested=sums["tested"])
    lent = pl.DataFrame(schema={**dict.fromkeys(NETWORK, pl.String), **_LENT}) if network is None else network
    wanted, enough = pl.col("prior_rule"), pl.col("classes") >= CLASSES_TO_FIT
    two = wanted == "two_level"
    kind = (
        pl.when(wanted == "fixed")
        .then(pl.lit("fixed policy"))
        .when(two & enough & (pl.col("schools") >= SCHOOLS_TO_FIT))
        .then(pl.lit("two_level district_grade"))
        .when(two & pl.col("prior_mean").is_not_null())
        .then(pl.lit("two_level home"))
        .when((wanted == "full_bayes") & enough)
        .then(pl.lit("full_bayes district_grade"))
        .when((wanted == "moments") & enough)
        .then(pl.lit("moments district_grade"))
        .when(enough)
        .then(pl.lit("one_level district_grade"))
        .when(pl.col("classes") >= CLASSES_OF_A_GRADE)
        .then(pl.lit("pooled district_grade"))
        .otherwise(pl.lit("pooled district"))
    )
    return (
        groups.join(lent.select(*NETWORK, *_LENT), on=NETWORK, how="left", nulls_equal=True)
        .join(whole, on=[*WINDOW, "measure"])
        .with_columns(kind=kind.str.split(" "))
        .with_columns(prior=pl.col("kind").list.first(), prior_from=pl.col("kind").list.last())
    )


_LENT = {
    "prior_mean": pl.Float64,
    "prior_strength": pl.Float64,
    "school_strength": pl.Float64,
    "at_bound": pl.Boolean,
}
Found = dict[str, NDArray[Any]]


def _in_schools(
    rows: pl.DataFrame,
    counts: ClassCounts,
    group: Iterable[str],
    school: Iterable[str],
    tau: NDArray[np.float64],
    excess: NDArray[np.float64],
) -> two_level.Classes:
    """Classes in order of group and school, as the fit wants them."""
    coded = rows.select(group=pl.struct(group).rle_id(), school=pl.struct(school).rle_id())
    of_school = coded.unique("school", keep="first", maintain_order=True)["group"]
    schools, groups = (each.to_numpy().astype(np.intp) for each in (coded["school"], of_school))
    return two_level.Classes(counts.y, counts.n, counts.enrolled, counts.limit, schools, groups, tau, excess)


def _two_level(part: _Part, *, is_lent: bool) -> Found:
    rows, groups = part
    limits = (groups[name].to_numpy() for name in ("tau", "excess"))
    classes = _in_schools(rows, part.tested, DISTRICT_GRADE, SCHOOL_GRADE, *limits)
    if is_lent:
        lent = (groups[name].to_numpy() for name in ("prior_mean", "prior_strength", "school_strength"))
        fitted, found = two_level.infer(classes, *lent)
    else:
        fitted, found = two_level.fit(classes)
    at_bound = groups["at_bound"].to_numpy() if is_lent else fitted.at_bound
    strength = part.spread(fitted.class_strength)
    return {
        "posterior_mean": found.mean,
        "p_above": found.p_above,
        "p_above_if_all_tested": found.p_above_if_all_tested,
        "p_above_peers": found.p_above_school,
        "p_excess": found.p_excess,
        "p_grade_above": found.school_p_above[classes.school],
        "reliability": priors.reliability(classes.n, strength),
        "prior_mean": part.spread(fitted.mean),
        "prior_strength": strength,
        "school_strength": part.spread(fitted.school_strength),
        "at_bound": part.spread(at_bound),
    }


def _one_level(part: _Part) -> Found:
    fitted = priors.fit(part.rows["in_need"], part.rows["tested"], part.begins)
    return _given(part, fitted.mean, fitted.strength) | {"at_bound": part.spread(fitted.at_bound)}


def _moments(part: _Part) -> Found:
    """Kleinman's estimates within the bounds of a fit; classes that differ as by chance stand at the greatest."""
    found = priors.moments(part.rows["in_need"], part.rows["tested"], part.begins)
    mean = np.clip(found.mean, *special.expit(priors.LOGIT_MEANS))
    strength = np.clip(found.strength, *priors.STRENGTHS)
    return _given(part, mean, strength) | {"at_bound": part.spread(strength >= priors.STRENGTHS[1])}


def _full_bayes(part: _Part) -> Found:
    found, mean, log_strength = priors.full_bayes(part.tested, part.begins)
    return _said(part, found, part.spread(mean), part.spread(np.exp(log_strength)))


def _pooled(part: _Part, *, all_grades: bool) -> Found:
    y, n = (part.groups[f"{'all_' if all_grades else ''}{name}"].to_numpy() for name in ("in_need", "tested"))
    mean = np.clip(y / n, *special.expit(priors.LOGIT_MEANS))
    return _given(part, mean, np.full(len(mean), POOLED_STRENGTH))


def _fixed(part: _Part) -> Found:
    return _given(part, part.groups["fixed_mean"].to_numpy(), part.groups["fixed_strength"].to_numpy())


def _given(part: _Part, mean: NDArray[np.float64], strength: NDArray[np.float64]) -> Found:
    mean, strength = part.spread(mean), part.spread(strength)
    return _said(part, priors.posterior(part.tested, mean, strength), mean, strength)


def _said(part: _Part, found: priors.Posterior, mean: NDArray[np.float64], strength: NDArray[np.float64]) -> Found:
    return {
        "posterior_mean": found.mean,
        "p_above": found.p_above,
        "p_above_if_all_tested": found.p_above_if_all_tested,
        "p_above_peers": _above_rest(part.rows),
        "reliability": priors.reliability(part.rows["tested"], strength),
        "prior_mean": mean,
        "prior_strength": strength,
    }


def _above_rest(rows: pl.DataFrame) -> NDArray[np.float64]:
    """P(class > rest of its school-grade) under Jeffreys' prior; alone in it, against the rest of the district."""
    y, n, grade_y, grade_n, all_y, all_n = (
        rows[name].to_numpy()
        for name in ("in_need", "tested", "grade_in_need", "grade_tested", "district_in_need", "district_tested")
    )
    alone = grade_n == n
    rest_y, rest_n = np.where(alone, all_y, grade_y) - y, np.where(alone, all_n, grade_n) - n
    found = np.full(len(rows), np.nan)
    some = rest_n > 0
    mine, rest = (y[some], n[some]), (rest_y[some], rest_n[some])
    found[some] = p_greater(mine[0] + 0.5, mine[1] - mine[0] + 0.5, rest[0] + 0.5, rest[1] - rest[0] + 0.5)
    return found


_KINDS: tuple[tuple[str, str, Callable[[_Part], Found]], ...] = (
    ("two_level", "district_grade", lambda part: _two_level(part, is_lent=False)),
    ("two_level", "home", lambda part: _two_level(part, is_lent=True)),
    ("one_level", "district_grade", _one_level),
    ("moments", "district_grade", _moments),
    ("full_bayes", "district_grade", _full_bayes),
    ("pooled", "district_grade", lambda part: _pooled(part, all_grades=False)),
    ("pooled", "district", lambda part: _pooled(part, all_grades=True)),
    ("fixed", "policy", _fixed),
)


def _alone(rows: pl.DataFrame) -> pl.DataFrame:
    """Sections that are judged by themselves, under Jeffreys' prior."""
    mean, strength = np.full(len(rows), 0.5), np.ones(len(rows))
    found = priors.posterior(_tested(rows), mean, strength)
    told = {
        "posterior_mean": found.mean,
        "p_above": found.p_above,
        "p_above_if_all_tested": found.p_above_if_all_tested,
        "p_tail": tail_at_least(*(rows[c] for c in ("in_need", "tested", "tau"))),
        "reliability": priors.reliability(rows["tested"], strength),
        "prior_mean": mean,
        "prior_strength": strength,
    }
    return _frame(rows, told, "jeffreys", "none")


def _frame(rows: pl.DataFrame, found: Found, prior: str, prior_from: str) -> pl.DataFrame:
    made = {name: _rounded(values) for name, values in found.items()}
    named = {"prior": pl.lit(prior), "prior_from": pl.lit(prior_from)}
    return rows.select("row", **named, **made).select(
        "row",
        *(pl.col(c).cast(t) if c in made or c in named else pl.lit(None, t).alias(c) for c, t in ON_CLASS.items()),
    )


def _rounded(values: NDArray[np.float64]) -> pl.Series:
    # Nine decimals: what a vector unit does to the last bit depends on where in an array a row stands.
    return pl.Series(values.astype(np.float64).round(_DIGITS), nan_to_null=True)
