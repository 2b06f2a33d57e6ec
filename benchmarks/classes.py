"""A state's classes fitted and decided, against a floor of the same run: counting the same classes once.

Made up are districts with a grade in each of several windows and measures, so that every group is a fit of two levels.
Seconds are of the processor, all threads together, because walls lie on a shared machine; both are told.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl

from schemas.contract import empty
from schemas.policy import DistrictPolicy
from schemas.projections import QualityResult
from transforms.classes import with_need_cuts, with_rules
from transforms.classrooms import decide, judge, pool

SECONDS = 20.0
GRADES, WINDOWS, MEASURES = (
    ("3", "4", "5", "6"),
    ("fall", "winter", "spring"),
    ("star_math", "map_growth_math", "fb_amath"),
)
SCHOOLS, CLASSES = 5, 2


def main() -> None:
    """Run the benchmark and print its line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=6_000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    districts = -(-arguments.groups // (len(GRADES) * len(WINDOWS) * len(MEASURES)))
    rows = state(districts, seed=1)
    policies = {name: DistrictPolicy(time_zone="America/Denver") for name in rows["district_id"].unique().sort()}
    floor = measured(lambda: count(rows))
    found = measured(lambda: decided(rows, policies))
    groups = rows.select("district_id", "benchmark_window", "measure", "grade").n_unique()
    result = {
        "step": "fit and decide",
        "groups": groups,
        "classes": len(rows),
        "cpu_seconds": round(found[0], 2),
        "wall_seconds": round(found[1], 2),
        "floor_cpu_seconds": round(floor[0], 3),
        "ratio": round(found[0] / floor[0], 1),
        "target_seconds_on_2_cores": SECONDS,
        "is_met": found[0] / 2 <= SECONDS,
        "cores": os.cpu_count(),
        "machine": platform.processor() or platform.machine(),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    print(
        f"{groups:,} groups, {len(rows):,} classes: {found[0]:.1f} s of processor time ({found[1]:.1f} s wall),"
        f" {result['ratio']} x the floor of {floor[0]:.3f} s; {'met' if result['is_met'] else 'missed'}:"
        f" at most {SECONDS:g} s on 2 cores"
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"classes-{groups}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {path}")


def state(districts: int, seed: int) -> pl.DataFrame:
    """Counted classes of so many districts, in every grade, window and measure, spread between and within schools."""
    rng = np.random.default_rng(seed)
    keys = pl.DataFrame({"district_id": [f"{number:04}" for number in range(districts)]}).join(
        pl.DataFrame({"grade": GRADES}), how="cross"
    )
    for name, values in (("benchmark_window", WINDOWS), ("measure", MEASURES)):
        keys = keys.join(pl.DataFrame({name: values}), how="cross")
    groups, per_group = len(keys), SCHOOLS * CLASSES
    mean, between, within = (rng.uniform(low, high, groups) for low, high in ((0.1, 0.35), (4.0, 60.0), (6.0, 100.0)))
    schools = np.clip(
        rng.beta((mean * between)[:, None], ((1 - mean) * between)[:, None], (groups, SCHOOLS)), 1e-3, 0.999
    )
    rate, within = schools.repeat(CLASSES, axis=1).ravel(), within.repeat(per_group)
    enrolled = rng.integers(16, 29, groups * per_group)
    tested = enrolled - rng.binomial(2, 0.3, enrolled.size)
    in_need = rng.binomial(tested, rng.beta(rate * within, (1 - rate) * within))
    place = np.tile(np.arange(per_group), groups)
    return (
        keys.select(pl.all().repeat_by(per_group))
        .explode(keys.columns)
        .with_columns(
            pl.Series("in_need", in_need),
            pl.Series("tested", tested),
            pl.Series("enrolled", enrolled),
            pl.Series("school_id", [f"s{each}" for each in place // CLASSES]),
            pl.Series("class_id", [f"c{each}" for each in place]),
        )
        .with_columns(
            class_id=pl.format("{}-{}-{}", "district_id", "grade", "class_id"),
            school_year=pl.lit("2026"),
            section_type=pl.lit("regular"),
            reference_on=pl.lit(date(2026, 1, 20)),
            recommended=pl.col("in_need"),
            mobile=pl.lit(0),
            median_percentile=pl.lit(50.0),
            median_score=pl.lit(200.0),
            class_label=pl.lit(""),
            grade_enrolled=pl.col("enrolled")
            .sum()
            .over("district_id", "benchmark_window", "measure", "grade", "school_id"),
            grade_results=pl.col("tested")
            .sum()
            .over("district_id", "benchmark_window", "measure", "grade", "school_id"),
        )
    )


def count(rows: pl.DataFrame) -> pl.DataFrame:
    """The floor: each group's students and need, once."""
    return rows.group_by("district_id", "benchmark_window", "measure", "grade", "school_id").agg(
        pl.col("in_need", "tested", "enrolled").sum()
    )


def decided(rows: pl.DataFrame, policies: dict[str, DistrictPolicy]) -> pl.DataFrame:
    """What ``class_decisions`` does once the classes are counted."""
    counted = with_need_cuts(with_rules(rows, policies), policies)
    return decide(judge(pool(counted, empty(QualityResult).lazy())))


def measured(run: Callable[[], object]) -> tuple[float, float]:
    """Processor and wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - cpu, time.perf_counter() - wall


if __name__ == "__main__":
    main()
