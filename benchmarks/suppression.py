"""Suppression against a peer on tables, and a simulated state suppressed and audited.

`--peer` needs the extra `peer` (pytauargus, EUPL-1.2). It writes true counts to log files, so it runs in a folder that
is removed afterwards, on made-up tables alone. Seconds are of the processor and of the wall, which lies on a shared
machine.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from schemas.publication import publication
from transforms.audit import AuditReport, audit
from transforms.publication import Layout, Rule, Table, aggregated, long, problem
from transforms.releases import Mode, Question, as_told, audited, public_rows, question, released
from transforms.suppression import suppress

ROWS, COLUMNS, TABLES = 40, 9, 10
TABLE = Layout(tables=(Table("table", ("row", "column")),))
KIND = "race_ethnicity"
"""The student group of the simulated state; the declared tables know more kinds."""
SHARES = np.array([0.52, 0.33, 0.05, 0.04, 0.03, 0.015, 0.01, 0.005])
"""Of the eight student groups of the state, one dominant in most schools."""
STATISTICS = {each.name: question(each, publication(), [KIND]) for each in publication().statistics}
"""The declared set."""
GRADES, WINDOWS, PROCESSES = 6, 3, 2
PLAIN = Rule(lower=0)
IN_COUNTS = (
    "{statistic}: {cells:,} cells, {primary:,} primary, {secondary_share:.1%} of the others withheld"
    " ({forced_share:.1%} are the only company of a primary in a whole): suppressed in {made:.0f} s and"
    " audited in {audit:.0f} s of processor; {by_witness:,} by witness, {by_solver:,} by solver,"
    " {unprotected:,} unprotected, {findings:,} findings"
)
IN_BANDS = (
    "{statistic} in bands: {cells:,} cells, {primary:,} of too few students, {secondary:,} withheld because a band was"
    " too fine: made in {made:.0f} s and audited in {audit:.0f} s of processor; {by_witness:,} by witness,"
    " {by_solver:,} by solver, {findings:,} findings"
)


def main() -> None:
    """Run one of the two and print its line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", action="store_true")
    parser.add_argument("--districts", type=int, default=180)
    parser.add_argument("--schools", type=int, default=1800)
    parser.add_argument("--windows", type=int, default=WINDOWS)
    parser.add_argument("--statistics", choices=list(STATISTICS), nargs="+", default=["need"])
    parser.add_argument("--mode", choices=["counts", "bands"], default="counts")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.peer:
        tables = [compared(seed) for seed in range(TABLES)]
        for each in tables:
            print("{kind}: {ours} hidden in {seconds:.2f} s, peer {theirs} in {peer_seconds:.2f} s".format(**each))
        name, result = "peer", {"tables": tables}
    else:
        result = state(arguments.districts, arguments.schools, arguments.windows, arguments.statistics, arguments.mode)
        line = IN_BANDS if arguments.mode == "bands" else IN_COUNTS
        for each in result["statistics"]:
            print(line.format(**each))
        print("in all {seconds:.0f} s on {processes} processes, {gibibytes:.1f} GiB".format(**result))
        name = f"state-{arguments.mode}-{arguments.districts}-{'-'.join(arguments.statistics)}"
    (arguments.out / f"suppression-{name}.json").write_text(json.dumps(result, indent=1) + "\n")


def state(districts: int, schools: int, windows: int, statistics: Sequence[str], mode: Mode) -> dict[str, Any]:
    """Statistics of a simulated state, made fit to publish and audited: windows apart, as they are published."""
    begun = time.perf_counter()
    with ProcessPoolExecutor(PROCESSES) as pool:
        asked = {
            name: [pool.submit(one_window, districts, schools, window, name, mode) for window in range(windows)]
            for name in statistics
        }
        found = {name: [each.result() for each in tasks] for name, tasks in asked.items()}
    of_all = []
    for name, each_window in found.items():
        total = {key: sum(each[key] for each in each_window) for key in each_window[0]}
        others = total["cells"] - total["primary"]
        shares = {"secondary_share": total["secondary"] / others, "forced_share": total["forced"] / others}
        of_all.append({"statistic": name, **total, **shares})
    peaks = [each["gibibytes"] for each_window in found.values() for each in each_window]
    return {
        "statistics": of_all,
        "seconds": time.perf_counter() - begun,
        "processes": PROCESSES,
        "gibibytes": min(PROCESSES, len(peaks)) * max(peaks),
    }


def one_window(districts: int, schools: int, window: int, statistic: str, mode: Mode) -> dict[str, float]:
    """Cells, what was withheld, seconds of processor and what the audit found."""
    asked = STATISTICS[statistic]
    counts = simulated(districts, schools, window, asked.layout)
    found = in_bands(counts, asked) if mode == "bands" else in_counts(counts, asked.layout)
    return {**found, "gibibytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def in_counts(counts: pl.DataFrame, layout: Layout) -> dict[str, float]:
    """Mode B: what is withheld, and the audit of all of it."""
    made = problem([long(aggregated(counts, layout), layout)], layout)
    rule = Rule()
    (suppressed, _), pattern = timed(lambda: suppress(made, rule))
    seen = made.published(pattern.withheld, pattern.is_primary)
    (seconds, _), report = timed(lambda: audit(seen, rule, known=made.cells["value"].to_numpy()))
    links = abs(made.relations)[(made.sums["over"] == "statistic").to_numpy()]
    return {
        "cells": len(made.cells),
        "primary": int(pattern.is_primary.sum()),
        "secondary": int((pattern.withheld & ~pattern.is_primary).sum()),
        "forced": int(np.count_nonzero(links @ pattern.is_primary.astype(float) == 1)),
        "unprotected": int(pattern.unprotected.sum()),
        "made": suppressed,
        **_audited(seconds, report),
    }


def in_bands(counts: pl.DataFrame, asked: Question) -> dict[str, float]:
    """Mode A: bands, widened and withheld until the audit passes, and the audit of the public rows."""
    (made, _), cells = timed(lambda: released(counts, asked, Rule(), "bands", "simulated"))
    told = as_told(cells, public_rows(cells, "bands"), "bands")
    (seconds, _), report = timed(lambda: audited([told], asked, Rule()))
    reason = cells["reason"].fill_null("")
    return {
        "cells": len(cells),
        "primary": int((reason == "too_few_students").sum()),
        "secondary": int((reason == "band_too_fine").sum()),
        "forced": 0,
        "made": made,
        **_audited(seconds, report),
    }


def _audited(seconds: float, report: AuditReport) -> dict[str, float]:
    return {
        "audit": seconds,
        "by_witness": report.by_witness,
        "by_solver": report.by_solver,
        "findings": len(report.findings),
    }


def simulated(districts: int, schools: int, window: int, layout: Layout) -> pl.DataFrame:
    """Students and counts by school, grade and group: few large districts and many of a school or two."""
    rng = np.random.default_rng(0)
    size = np.maximum(rng.lognormal(0, 1.3, districts), 0.05)
    district = np.repeat(np.arange(districts), 1 + rng.multinomial(schools - districts, size / size.sum()))
    per_grade = np.clip(rng.lognormal(np.log(45), 0.55, schools), 6, 160)
    mixed = rng.dirichlet(SHARES / SHARES.sum() * 6, schools)
    enrolled = rng.poisson(per_grade[:, None, None] * mixed[:, None, :] * np.ones((1, GRADES, 1)))
    rate = np.clip(rng.normal(0.22, 0.1, schools), 0.03, 0.7)
    rng = np.random.default_rng(1 + window)
    students = rng.binomial(enrolled, 0.95)
    if layout.students == "classes":
        students = -(-students // 20)
    school, grade, group = np.nonzero(students)
    n, share = students[school, grade, group], rate[school]
    if len(layout.counts) == 1:
        counted = rng.binomial(n, share)[:, None]
    else:
        parts = np.array([1 - share, *(share / (len(layout.counts) - 1),) * (len(layout.counts) - 1)]).T
        counted = rng.multinomial(n, parts)
    return pl.DataFrame(
        {"district_id": district[school], "school_id": school, "grade": grade, "group": group, layout.students: n}
        | {name: counted[:, at] for at, name in enumerate(layout.counts)}
    ).select(
        pl.lit("2025-2026").alias("school_year"),
        pl.lit(str(window)).alias("benchmark_window"),
        pl.lit("math").alias("measure"),
        pl.format("d{}", pl.col("district_id").cast(pl.String).str.zfill(4)).alias("district_id"),
        pl.format("s{}", pl.col("school_id").cast(pl.String).str.zfill(5)).alias("school_id"),
        pl.col("grade").cast(pl.String),
        pl.col("group").cast(pl.String).alias(KIND),
        str(layout.students),
        *layout.counts,
    )


def timed(work: Callable[[], Any]) -> tuple[tuple[float, float], Any]:
    """Seconds of the processor and of the wall, and what was made."""
    processor, wall = time.process_time(), time.perf_counter()
    made = work()
    return (round(time.process_time() - processor, 2), round(time.perf_counter() - wall, 2)), made


def compared(seed: int) -> dict[str, Any]:
    """One random table with totals: cells hidden and seconds, ours and the peer's, both counting cells alone."""
    rng, is_skewed = np.random.default_rng(seed), bool(seed % 2)
    if is_skewed:
        mean = rng.lognormal(3.0, 0.9, (ROWS, 1)) * rng.lognormal(0, 0.5, (1, COLUMNS))
    else:
        mean = 18.0 * rng.uniform(0.7, 1.5, (ROWS, 1)) * np.ones((1, COLUMNS))
    counts = rng.poisson(mean)
    finest = pl.DataFrame(
        {
            "row": np.repeat(np.arange(ROWS), COLUMNS),
            "column": np.tile(np.arange(COLUMNS), ROWS),
            "count": counts.ravel(),
        }
    )
    made = problem([long(aggregated(finest, TABLE), TABLE)], TABLE)
    (seconds, _), pattern = timed(lambda: suppress(made, PLAIN, np.ones(len(made.cells))))
    report = audit(made.published(pattern.withheld, pattern.is_primary), PLAIN)
    peer_seconds, theirs = peer(counts)
    return {
        "kind": "skewed" if is_skewed else "even",
        "ours": int(pattern.withheld.sum()),
        "theirs": theirs,
        "seconds": seconds,
        "peer_seconds": peer_seconds,
        "is_passed": report.is_passed,
    }


def peer(counts: np.ndarray) -> tuple[float, int]:
    """Seconds and hidden cells of pytauargus: optimal suppression, every cell at the cost of one, the same width.

    Its width is split: as far down as the cell goes, the rest up. Codes are padded, because it sorts them as text.
    """
    from pytauargus.arb import micro_arb
    from pytauargus.dataframe import to_microdata
    from pytauargus.engine import run_batch
    from pytauargus.micro import micro_asc_rda
    from pytauargus.result import TableResult

    rows = [f"{each:02}" for each in range(counts.shape[0])]
    columns = [str(each) for each in range(counts.shape[1])]
    full = np.pad(counts, ((0, 1), (0, 1)))
    full[-1], full[:, -1] = full.sum(axis=0), full.sum(axis=1)
    names = [(row, column) for row in [*rows, "Total"] for column in [*columns, "Total"]]
    small = [(*name, int(n)) for name, n in zip(names, full.ravel(), strict=True) if 0 < n < PLAIN.min_category]
    width = PLAIN.min_category - 1
    marks = [f"{row},{column},u" for row, column, _ in small]
    marks += [f"{row},{column},pl,{n},{width - n}" for row, column, n in small]
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            cells = [
                {"row": row, "column": column, "value": float(counts[int(row), int(column)])}
                for row in rows
                for column in columns
            ]
            path = {name: str(Path(folder) / name) for name in ("t.asc", "t.rda", "t.arb", "t.hst", "t.tab")}
            micro_asc_rda(to_microdata(cells), asc_filename=path["t.asc"], rda_filename=path["t.rda"])
            Path(path["t.hst"]).write_text("\n".join(marks) + "\n")
            micro_arb(
                arb_filename=path["t.arb"],
                asc_filename=path["t.asc"],
                rda_filename=path["t.rda"],
                explanatory_vars=[["row", "column"]],
                response_var="value",
                cost_var="-1",
                safety_rules="MAN(0)",
                suppress="OPT(1)",
                output_names=[path["t.tab"]],
                output_type="5",
                output_options="SO+",
                apriori=[path["t.hst"]],
            )
            (seconds, _), _ = timed(lambda: run_batch(path["t.arb"]))
            status = TableResult(path=path["t.tab"], exp_vars=["row", "column"], response="value").status()
        finally:
            os.chdir(home)
    return seconds, status.count("U") + status.count("M")


if __name__ == "__main__":
    main()
