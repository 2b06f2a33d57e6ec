"""Probes of a cycle beside its aim line, one small drawing per student: drawn here, because a school has hundreds."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from markupsafe import Markup

from pipelines.report.words import counted, day, decimal

WIDTH, HEIGHT = 220, 132
LEFT, RIGHT, TOP, BOTTOM = 34, 10, 12, 24
"""Room for the labels around the plot."""


@dataclass(frozen=True)
class Series:
    """One student in one cycle."""

    who: str
    opened_on: date | None
    ends_on: date | None
    """Planned end: where the aim line ends."""
    baseline: float | None
    goal: float | None
    days: Sequence[date]
    scores: Sequence[float]
    aims: Sequence[float | None]
    """Aim line on the days of the probes."""

    @property
    def has_aim(self) -> bool:
        return None not in (self.opened_on, self.ends_on, self.baseline, self.goal)

    @property
    def values(self) -> list[float]:
        return [*self.scores, *(each for each in (self.baseline, self.goal) if each is not None)]

    @property
    def told(self) -> str:
        """What the drawing shows, in words."""
        if not self.scores:
            return f"{self.who}: no probes."
        said = f"{self.who}: {counted(len(self.scores), 'probe')} from {day(self.days[0])} to {day(self.days[-1])}"
        said += f", first {decimal(self.scores[0])}, last {decimal(self.scores[-1])}"
        aim = self.aims[-1]
        if aim is None:
            return f"{said}; there is no aim line, because a goal, a baseline or a planned end is missing."
        where = "on" if self.scores[-1] == aim else "above" if self.scores[-1] > aim else "below"
        return f"{said}; the last is {where} the aim line; goal {decimal(self.goal)}."


@dataclass(frozen=True)
class Panel:
    """A drawing with what it says."""

    who: str
    told: str
    picture: Markup


def panels(series: Sequence[Series]) -> list[Panel]:
    """The drawings of one cycle, all with the same two scales."""
    values = [value for each in series for value in each.values]
    days = [on for each in series for on in (*each.days, each.opened_on, each.ends_on) if on is not None]
    if not values or not days:
        return []
    low, high = min(values), max(values)
    plane = _Plane(min(days), max(days), low, high if high > low else low + 1)
    return [Panel(each.who, each.told, plane.drawn(each)) for each in series]


@dataclass(frozen=True)
class _Plane:
    first: date
    last: date
    low: float
    high: float

    def drawn(self, series: Series) -> Markup:
        """A drawing: probes as filled circles, the aim line dashed, the goal dotted and named."""
        parts = [self._frame()]
        if series.goal is not None:
            y = self._y(series.goal)
            parts.append(f'<path class="goal" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>')
            parts.append(f'<text x="{WIDTH - RIGHT}" y="{y - 3:.1f}" text-anchor="end">goal {series.goal:g}</text>')
        if series.opened_on and series.ends_on and series.baseline is not None and series.goal is not None:
            # a series of other forms begins within the cycle, and its aim line with it
            aim = series.aims[0] if series.aims else None
            on, score = (series.opened_on, series.baseline) if aim is None else (series.days[0], aim)
            begin, end = self._point(on, score), self._point(series.ends_on, series.goal)
            parts.append(f'<path class="aim" d="M{begin}L{end}"/>')
        points = [self._point(on, score) for on, score in zip(series.days, series.scores, strict=True)]
        if points:
            parts.append(f'<path class="line" d="M{"L".join(points)}"/>')
        for point in points:
            x, y_of = point.split(" ")
            parts.append(f'<circle cx="{x}" cy="{y_of}" r="3"/>')
        return Markup(
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true" focusable="false">{"".join(parts)}</svg>'
        )

    def _frame(self) -> str:
        bottom = HEIGHT - BOTTOM
        return (
            f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{WIDTH - RIGHT}"/>'
            f'<text x="{LEFT - 4}" y="{TOP + 4}" text-anchor="end">{self.high:g}</text>'
            f'<text x="{LEFT - 4}" y="{bottom + 3}" text-anchor="end">{self.low:g}</text>'
            f'<text x="{LEFT}" y="{HEIGHT - 8}">{self.first.day} {self.first:%b}</text>'
            f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 8}" text-anchor="end">{self.last.day} {self.last:%b}</text>'
        )

    def _point(self, on: date, score: float) -> str:
        span = max((self.last - self.first).days, 1)
        x = LEFT + (WIDTH - LEFT - RIGHT) * (on - self.first).days / span
        return f"{x:.1f} {self._y(score)}"

    def _y(self, score: float) -> float:
        share = (score - self.low) / (self.high - self.low)
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share, 1)
