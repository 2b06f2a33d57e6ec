"""Charts as inline SVG: Altair draws, vl-convert renders while the site is built, so that pages need no script."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import polars as pl
import vl_convert

WIDE, NARROW = 640, 300
"""Widths of the two renderings; the style sheet shows the narrow one on a phone."""
FONT = "system-ui, sans-serif"
COLOURS: Mapping[str, str] = {
    "student": "#0072B2",
    "classroom": "#D55E00",
    "system": "#6A3D77",
    "unknown": "#6E6E6E",
    "ink": "#1B1B1B",
    "grid": "#D9D9D9",
}
"""Okabe and Ito's palette, its purple darkened so that it stands out from white by 3 to 1."""


@dataclass(frozen=True)
class Figure:
    """A chart as a page shows it: what it says in words, the picture, and the numbers behind."""

    id: str
    caption: str
    alternative: str
    """What the picture shows, for who cannot see it: one or two sentences."""
    wide: str
    narrow: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    """The table behind; the first cell of a row is its heading."""


def figure(
    key: str,
    caption: str,
    alternative: str,
    draw: "Draw",
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
) -> Figure:
    """Render a chart at both widths."""
    return Figure(key, caption, alternative, _svg(draw(WIDE)), _svg(draw(NARROW)), columns, rows)


Draw = Any
"""A function from a width to an Altair chart."""


def _svg(chart: Any) -> str:
    spec = chart.configure(**CONFIG).to_dict(validate=False)
    return str(vl_convert.vegalite_to_svg(spec))


CONFIG: Mapping[str, Any] = {
    "background": "white",
    "font": FONT,
}


TWO_LINES = alt.Axis(labelAngle=0, labelExpr="split(datum.label, ' ')")
"""`Fall 2025-26` as two lines, so that a phone has room for it."""


def stacked(rows: pl.DataFrame, x: Sequence[str], parts: Sequence[str], tones: Sequence[str], title: str) -> Draw:
    """Bars of counts that add up, each with its sign: columns `x`, `part`, `sign`, `count` and its `place`."""

    many = 0.07 * float(rows.group_by("x").agg(pl.col("count").sum())["count"].max() or 0)  # type: ignore[arg-type]

    def draw(width: int) -> Any:
        bars = alt.Chart(rows).encode(
            x=alt.X("x:N", sort=list(x), title=None, axis=TWO_LINES),
            y=alt.Y("count:Q", title=title, stack="zero", axis=alt.Axis(grid=True, tickMinStep=1)),
            order="place:Q",
        )
        colour = alt.Color(
            "part:N",
            sort=list(parts),
            scale=alt.Scale(domain=list(parts), range=list(tones)),
            legend=alt.Legend(title=None, orient="bottom", columns=2 if width == NARROW else 4),
        )
        middle = alt.Y("count:Q", stack="zero", bandPosition=0.5)
        written = bars.transform_calculate(said=f"datum.count >= {many} ? datum.sign + ' ' + datum.count : ''")
        return alt.layer(
            bars.mark_bar(stroke="white", strokeWidth=1.5).encode(color=colour),
            written.mark_text(color="white", fontSize=12).encode(text="said:N", y=middle, detail="part:N"),
        ).properties(width=width - 60, height=200)

    return draw


def rates_over_time(rows: pl.DataFrame, whens: Sequence[str]) -> Draw:
    """Points with intervals, joined, beside lines at 10 and 20 %: columns `when`, `share`, `low`, `high`."""

    def draw(width: int) -> Any:
        top = max(0.3, float(rows["high"].max() or 0) * 1.1)  # type: ignore[arg-type]
        x = alt.X("when:N", sort=list(whens), title=None, axis=TWO_LINES)
        y = alt.Y("share:Q", title="In need", scale=alt.Scale(domain=[0, top]), axis=alt.Axis(format="%"))
        points = alt.Chart(rows).encode(x=x)
        limits = alt.Chart(pl.DataFrame({"at": [0.1, 0.2], "label": ["10 %", "20 %"]})).encode(y="at:Q")
        return alt.layer(
            limits.mark_rule(strokeDash=[4, 3], color=COLOURS["ink"], opacity=0.6),
            limits.mark_text(align="right", dy=-5, x=width - 70, color=COLOURS["ink"]).encode(text="label:N"),
            points.mark_line(color=COLOURS["student"]).encode(y=y),
            points.mark_rule(color=COLOURS["student"], strokeWidth=2).encode(y="low:Q", y2="high:Q"),
            points.mark_point(color=COLOURS["student"], filled=True, size=70, opacity=1).encode(y=y),
        ).properties(width=width - 60, height=200)

    return draw
