"""Slow, obvious version of the score at a percentile cut."""

from fractions import Fraction

NEAR, ENOUGH = 10, 30


def isotonic(points: list[tuple[float, Fraction]]) -> list[tuple[float, Fraction]]:
    """Least-squares fit of the second on the first that never falls, by pooling neighbours that do."""
    pools: list[tuple[list[float], Fraction, int]] = []
    for score in sorted({score for score, _ in points}):
        here = [value for at, value in points if at == score]
        pools.append(([score], sum(here, Fraction(0)), len(here)))
        while len(pools) > 1 and pools[-2][1] / pools[-2][2] > pools[-1][1] / pools[-1][2]:
            scores, total, count = pools.pop()
            before, its_total, its_count = pools.pop()
            pools.append((before + scores, its_total + total, its_count + count))
    return [(score, total / count) for scores, total, count in pools for score in scores]


def reference_cut(pairs: list[tuple[float, float]], cut: float) -> tuple[float | None, int]:
    """Score at the cut, null where unknown, and the pairs near it; ``pairs`` are (score, percentile)."""
    off = [(score, Fraction(percentile) - Fraction(cut)) for score, percentile in pairs]
    near = sum(abs(distance) <= NEAR for _, distance in off)
    fit = isotonic([(score, min(max(distance, Fraction(-NEAR)), Fraction(NEAR))) for score, distance in off])
    below = [score for score, fitted in fit if fitted < 0]
    at_or_above = [score for score, fitted in fit if fitted >= 0]
    if near < ENOUGH or not below or not at_or_above:
        return None, near
    return (max(below) + min(at_or_above)) / 2, near
