"""Class decisions again, slowly, class by class, as a teacher could check them."""

from collections import defaultdict
from fractions import Fraction
from math import exp, lgamma
from typing import Any

from scipy import stats

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


def decide(classes: list[dict[str, Any]], blocked: frozenset[str] = frozenset()) -> dict[str, dict[str, Any]]:
    """Decisions of one district, measure and window by class id."""
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
    judged = sorted((r for r in classes if pooled(r)), key=lambda r: -round(p_above(r["y"], r["n"]), 9))
    chances = [round(p_above(r["y"], r["n"]), 9) for r in judged]
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
        high = [r for r in pool if p_above(r["y"], r["n"]) >= 0.5 and above(r)]
        system = p_grade is not None and len(pool) >= 2 and p_grade >= 0.90 and 2 * len(high) > len(pool)
        regular = [r for r in rows if r["section"] == "regular" and r["roster"] > 0]
        for r in rows:
            rest = [o for o in pool if o is not r] or [
                o for o in classes if pooled(o) and o["grade"] == grade and o is not r
            ]
            rest_y, rest_n = sum(o["y"] for o in rest), sum(o["n"] for o in rest)
            p_peers = p_greater(r["y"], r["n"], rest_y, rest_n) if pooled(r) and rest_n else None
            p = p_above(r["y"], r["n"]) if r["n"] else None
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
