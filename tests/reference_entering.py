"""Entering class against growth again, slowly, student by student, as a teacher could check it."""

from typing import Any


def p_at_least(chances: list[float], least: int) -> float:
    """Exact: one student after the other."""
    exactly = [1.0]
    for p in chances:
        exactly = [
            (exactly[k] * (1 - p) if k < len(exactly) else 0.0) + (exactly[k - 1] * p if k else 0.0)
            for k in range(len(exactly) + 1)
        ]
    return sum(exactly[max(least, 0) :])


def rate(others: list[dict[str, Any]], band: str) -> float | None:
    """Share in need of 30 or more at the band, tier 2 and 3 together where they are fewer."""
    wanted = [{band}, {"tier_2", "tier_3"}] if band in ("tier_2", "tier_3") else [{band}]
    for bands in wanted:
        alike = [each for each in others if each["band"] in bands]
        if len(alike) >= 30:
            y, n = sum(each["need"] for each in alike), len(alike)
            return (y + 0.5) / (n + 1) if y in (0, n) else y / n
    return None


def growth(students: list[dict[str, Any]], false_discovery: float = 0.10) -> dict[str, dict[str, Any]]:
    """Classes of one district, measure and window; students are `cls, grade, band, need`, band None without fall."""
    found: dict[str, dict[str, Any]] = {}
    for cls in sorted({each["cls"] for each in students}):
        mine = [each for each in students if each["cls"] == cls]
        chances, observed = [], 0
        for each in mine:
            others = [o for o in students if o["cls"] != cls and o["grade"] == each["grade"]]
            q = rate(others, each["band"]) if each["band"] and each["grade"] else None
            if q is not None:
                chances.append(q)
                observed += each["need"]
        row: dict[str, Any] = {
            "tested": len(mine),
            "with_fall": sum(each["band"] is not None for each in mine),
            "matched": len(chances),
        }
        if len(chances) >= 10:
            row |= {
                "observed": observed,
                "expected": sum(chances),
                "p": round(p_at_least(chances, observed), 9),
                "p_low": round(1 - p_at_least(chances, observed + 1), 9),
            }
        found[cls] = row
    told = [row for row in found.values() if "p" in row]
    for row in told:
        is_more = _discovered(row["p"], [each["p"] for each in told], false_discovery)
        is_fewer = _discovered(row["p_low"], [each["p_low"] for each in told], false_discovery)
        row["growth_excess"] = (
            "more"
            if is_more and row["p"] <= 0.05 + 1e-9
            else "fewer"
            if is_fewer and row["p"] >= 0.95 - 1e-9
            else "as_expected"
        )
    return found


def _discovered(p: float, family: list[float], share: float) -> bool:
    """Benjamini-Hochberg as it is written: some limit at or above p that enough of the family stay within."""
    return any(each >= p and each * len(family) / sum(o <= each for o in family) <= share + 1e-9 for each in family)
