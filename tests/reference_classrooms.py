"""Class decisions again, slowly, class by class, as a teacher could check them."""

from collections import defaultdict
from fractions import Fraction
from itertools import pairwise
from math import exp, lgamma, log
from typing import Any

import numpy as np
from scipy import integrate, optimize, special, stats

TAU = Fraction(1, 5)


def p_above(y: int, n: int, tau: float = 0.2) -> float:
    return float(stats.beta.sf(tau, y + 0.5, n - y + 0.5))


def p_greater(y1: int, n1: int, y2: int, n2: int) -> float:
    """P(p1 > p2) under Jeffreys, by raising one parameter at a time from two equal distributions."""

    def log_beta(a: float, b: float) -> float:
        return lgamma(a) + lgamma(b) - lgamma(a + b)

    a = b = c = d = 0.5
    total = 0.5

    def weight() -> float:
        return exp(log_beta(a + c, b + d) - log_beta(a, b) - log_beta(c, d))

    for _ in range(y2):
        total, c = total - weight() / c, c + 1
    for _ in range(n2 - y2):
        total, d = total + weight() / d, d + 1
    for _ in range(y1):
        total, a = total + weight() / a, a + 1
    for _ in range(n1 - y1):
        total, b = total - weight() / b, b + 1
    return total


def beta_binomial(y: int, n: int, a: float, b: float) -> float:
    """Log likelihood of a class, without its binomial coefficient."""
    return float(special.betaln(y + a, n - y + b) - special.betaln(a, b))


def one_level(counts: list[tuple[int, int]]) -> tuple[float, float]:
    """Mean and strength that make the counts likeliest, by trying many starts."""

    def loss(point: np.ndarray) -> float:
        mean, strength = special.expit(point[0]), exp(point[1])
        return -sum(beta_binomial(y, n, mean * strength, (1 - mean) * strength) for y, n in counts)

    best = min(
        (
            optimize.minimize(loss, [mean, log(strength)], bounds=[(-6, 6), (0, log(200))], options={"ftol": 1e-15})
            for mean in (-3, -1, 0)
            for strength in (3, 15, 100)
        ),
        key=lambda found: found.fun,
    )
    polished = optimize.minimize(loss, best.x, method="Nelder-Mead", bounds=[(-6, 6), (0, log(200))],
                                 options={"xatol": 1e-9, "fatol": 1e-14})  # fmt: skip
    return float(special.expit(polished.x[0])), exp(polished.x[1])


def school_density(counts: list[tuple[int, int]], mean: float, class_strength: float, school_strength: float):
    """Log density of logit m of one school-grade and its classes together, m the school's mean."""
    a, b = mean * school_strength, (1 - mean) * school_strength

    def density(x: float) -> float:
        m, rest = max(special.expit(x), 1e-290), max(special.expit(-x), 1e-290)
        return (
            a * special.log_expit(x)
            + b * special.log_expit(-x)
            - special.betaln(a, b)
            + sum(beta_binomial(y, n, m * class_strength, rest * class_strength) for y, n in counts)
        )

    return density


def school_integral(density, of=lambda x: 1.0, step: float | None = None) -> float:
    """Integral of e^density times a function of logit m, in pieces around the top."""
    top = optimize.minimize_scalar(lambda x: -density(x), bounds=(-30, 30), method="bounded")
    near = {top.x + k for k in (-6, -3, -1, 0, 1, 3, 6)} | ({step} if step is not None else set())
    cuts = sorted({-2e4, -2e3, -200.0, -40.0, -12.0, 12.0, 40.0, 200.0, 2e3, 2e4} | near)
    return exp(-top.fun) * sum(
        integrate.quad(lambda x: exp(density(x) + top.fun) * of(x), low, high, epsabs=1e-12, epsrel=1e-10, limit=200)[0]
        for low, high in pairwise(cuts)
    )


def two_level_loss(point, schools: list[list[tuple[int, int]]]) -> float:
    mean, school_strength, class_strength = special.expit(point[0]), exp(point[1]), exp(point[2])
    return -sum(
        log(school_integral(school_density(counts, mean, class_strength, school_strength))) for counts in schools
    )


def two_level(schools: list[list[tuple[int, int]]], start) -> tuple[np.ndarray, float]:
    """Likeliest (logit mu, ln phi_school, ln phi_class) from a start on, and the log likelihood there."""
    box = [(-6, 6), (0, log(200)), (0, log(200))]
    found = optimize.minimize(two_level_loss, start, args=(schools,), bounds=box, method="L-BFGS-B",
                              options={"ftol": 1e-12, "gtol": 1e-6})  # fmt: skip
    return found.x, -found.fun


def two_level_posteriors(counts: list[tuple[int, int]], mean: float, class_strength: float, school_strength: float,
                         tau: float, excess: float) -> dict[str, Any]:  # fmt: skip
    """What the classes of one school-grade say together, by adaptive quadrature."""
    density = school_density(counts, mean, class_strength, school_strength)
    total = school_integral(density)

    def average(of) -> float:
        return school_integral(density, of, float(special.logit(tau))) / total

    def share_above(y: int, n: int, limit) -> float:
        def chance(x: float) -> float:
            m, rest = special.expit(x), special.expit(-x)
            if m < 1e-12 or limit(m) >= 1:
                return 0.0  # to 1e-10: no class is above a school where nobody is in need
            return float(special.betaincc(m * class_strength + y, rest * class_strength + n - y, limit(m)))

        return average(chance)

    return {
        "school_mean": average(special.expit),
        "school_p_above": average(lambda x: float(x > special.logit(tau))),
        "mean": [average(lambda x, y=y, n=n: (special.expit(x) * class_strength + y) / (class_strength + n))
                 for y, n in counts],
        "p_above": [share_above(y, n, lambda m: tau) for y, n in counts],
        "p_above_school": [share_above(y, n, lambda m: m) for y, n in counts],
        "p_excess": [share_above(y, n, lambda m: m + excess) for y, n in counts],
    }  # fmt: skip


def posteriors(pool: list[dict[str, Any]]) -> dict[str, float]:
    """P(rate > tau) of each evaluable class of a district, measure and window, one level at most."""
    found = {}
    for grade in {r["grade"] for r in pool}:
        classes = [r for r in pool if r["grade"] == grade]
        counts = [(r["y"], r["n"]) for r in classes]
        if len(classes) >= 8:
            mean, strength = one_level(counts)
        else:
            some = counts if len(classes) >= 3 else [(r["y"], r["n"]) for r in pool]
            mean, strength = sum(y for y, _ in some) / sum(n for _, n in some), 10.0
            mean = min(max(mean, float(special.expit(-6))), float(special.expit(6)))
        for r in classes:
            a, b = mean * strength + r["y"], (1 - mean) * strength + r["n"] - r["y"]
            found[r["cls"]] = float(stats.beta.sf(float(TAU), a, b))
    return found


def decide(classes: list[dict[str, Any]], blocked: frozenset[str] = frozenset()) -> dict[str, dict[str, Any]]:
    """Decisions of one district, measure and window by class id, with one level of prior at most."""
    by_school_grade: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in classes:
        by_school_grade[row["school"], row["grade"]].append(row)

    def with_results(rows: list[dict[str, Any]]) -> bool:
        roster = sum(r["roster"] for r in rows)
        return roster > 0 and Fraction(sum(r["n"] for r in rows), roster) >= Fraction(1, 5)

    results = {key: with_results(rows) for key, rows in by_school_grade.items()}
    scope = {}
    for school, grade in by_school_grade:
        peers = [results[s, g] for s, g in by_school_grade if g == grade and s != school]
        scope[school, grade] = results[school, grade] or (
            bool(peers) and Fraction(sum(peers), len(peers)) >= Fraction(4, 5)
        )
    if not any(r["n"] for r in classes):
        return {}

    def covered(r: dict[str, Any]) -> bool:
        return r["roster"] > 0 and Fraction(r["n"], r["roster"]) >= Fraction(4, 5)

    def pooled(r: dict[str, Any]) -> bool:
        return covered(r) and r["n"] >= 10 and r["section"] == "regular" and scope[r["school"], r["grade"]]

    def above(r: dict[str, Any]) -> bool:
        return r["n"] > 0 and Fraction(r["y"], r["n"]) > TAU

    found: dict[str, dict[str, Any]] = {}
    chance_of = posteriors([r for r in classes if pooled(r)])
    judged = sorted((r for r in classes if pooled(r)), key=lambda r: -round(chance_of[r["cls"]], 9))
    chances = [round(chance_of[r["cls"]], 9) for r in judged]
    flagged = set()
    for r, chance in zip(judged, chances, strict=True):
        up_to = [other for other in chances if other >= chance]
        mean = sum(1 - other for other in up_to) / len(up_to)
        if mean <= 0.10 + 1e-12 and chance >= 0.80 and above(r):
            flagged.add(r["cls"])
    for (school, grade), rows in by_school_grade.items():
        if not scope[school, grade]:
            continue
        roster, tested = sum(r["roster"] for r in rows), sum(r["n"] for r in rows)
        pool = [r for r in rows if pooled(r)]
        small = [r for r in rows if r["n"] < 10 and (r["roster"] == 0 or covered(r))]
        low = [r for r in rows if r["roster"] > 0 and not covered(r)]
        pool_y, pool_n = sum(r["y"] for r in pool), sum(r["n"] for r in pool)
        p_grade = p_above(pool_y, pool_n) if pool_n else None
        high = [r for r in pool if chance_of[r["cls"]] >= 0.5 and above(r)]
        system = p_grade is not None and len(pool) >= 2 and p_grade >= 0.90 and 2 * len(high) > len(pool)
        regular = [r for r in rows if r["section"] == "regular" and r["roster"] > 0]
        for r in rows:
            rest = [o for o in pool if o is not r] or [
                o for o in classes if pooled(o) and o["grade"] == grade and o is not r
            ]
            rest_y, rest_n = sum(o["y"] for o in rest), sum(o["n"] for o in rest)
            p_peers = p_greater(r["y"], r["n"], rest_y, rest_n) if pooled(r) and rest_n else None
            alone = p_above(r["y"], r["n"]) if covered(r) and r["n"] >= 10 and r["section"] != "regular" else None
            p = chance_of.get(r["cls"], alone)
            thin = bool(roster) and Fraction(tested, roster) < Fraction(4, 5)
            if school in blocked or thin or 3 * len(low) > len(rows) - len(small):
                level = "SYSTEM_DATA"
            elif r in low:
                level = "LOW_COVERAGE"
            elif r in small:
                level = "TOO_SMALL"
            elif system and r["section"] == "regular":
                level = "SYSTEM+CLASSROOM" if r["cls"] in flagged and (p_peers or 0) >= 0.90 else "SYSTEM"
            elif r["cls"] in flagged:
                level = "CLASSROOM_OR_SYSTEM" if len(regular) == 1 else "CLASSROOM"
            elif r["y"] == 0:
                level = "NONE"
            else:
                level = "WATCH" if (p or 0) >= 0.5 else "STUDENT"
            found[r["cls"]] = {
                "level": level,
                "p_above": p,
                "p_grade_above": p_grade,
                "p_above_peers": p_peers,
                "grade_tested": pool_n,
                "grade_in_need": pool_y,
                "coverage": r["n"] / r["roster"] if r["roster"] else None,
                "grade_coverage": tested / roster if roster else None,
            }
    return found
