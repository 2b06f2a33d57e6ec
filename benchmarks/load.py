"""Load to publish, a rerun without news and one corrected school file, each against a floor of the same run.

The floor is what any pipeline must pay: Polars scans the columns we need of the same files and writes them to
Parquet. Every measured step is a process of its own, so start-up counts and peak memory is its own.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from pipelines.simulate import corrected_school_file, simulate
from schemas.exports import layouts
from transforms.exports import wanted
from transforms.recognition import Recognised, recognise
from warehouse.home import Home
from warehouse.landing import discover
from warehouse.tabular import read_header

KINDS = ("roster", "map_growth", "cycles")
DISTRICT_OF = 100_000
"""Students of the largest district made unasked: one partition has to fit into memory, and few are larger."""
COLD_RATIO, COLD_SECONDS, PEAK_GIB = 6.0, 10.0, 3.0
RERUN_SECONDS, CORRECTED_SECONDS = 8.0, 15.0


@dataclass
class Measure:
    """One step: wall seconds, peak memory of its process, and seconds over the floor's."""

    step: str
    seconds: float
    peak_gib: float
    ratio: float
    target: str
    is_met: bool


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--students", type=int, default=100_000)
    parser.add_argument("--districts", type=int, help=f"else one per {DISTRICT_OF:,} students")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--floor-of", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.floor_of:
        write_floor(arguments.floor_of)
        return
    with tempfile.TemporaryDirectory(prefix="tierline-bench-") as folder:
        districts = arguments.districts or max(1, arguments.students // DISTRICT_OF)
        result = bench(Path(folder), arguments.students, districts)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"load-{arguments.students}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {path}")


def bench(folder: Path, students: int, districts: int) -> dict[str, object]:
    """Measure every step in ``folder`` and print the table."""
    home = Home(folder / "home").make()
    begun = time.perf_counter()
    made = simulate(home.landing, districts=districts, students=students, seed=1, kinds=KINDS)
    for each in made:
        (home.policies / f"{each.id}.toml").write_text('time_zone = "America/Denver"\n')
    size = sum(path.stat().st_size for path in home.landing.rglob("*") if path.is_file())
    print(
        f"{students:,} students, {size / 2**20:,.0f} MiB of exports, simulated in {time.perf_counter() - begun:.1f} s"
    )
    originals = folder / "originals"
    shutil.copytree(home.landing, originals)
    floor_seconds, floor_peak = _child([sys.executable, "-m", "benchmarks.load", "--floor-of", str(originals)])
    run = [sys.executable, "-m", "pipelines.cli", "run", "--home", str(home.root), "--json"]
    steps = [Measure("floor: scan and write", floor_seconds, floor_peak, 1.0, "", is_met=True)]

    def measure(step: str, limit: float) -> None:
        seconds, peak = _child(run)
        met = seconds <= limit and peak <= PEAK_GIB
        steps.append(
            Measure(step, seconds, peak, seconds / floor_seconds, f"<= {limit:.1f} s, <= {PEAK_GIB:g} GiB", met)
        )

    measure("cold load to publish", COLD_RATIO * floor_seconds + COLD_SECONDS)
    measure("rerun without news", RERUN_SECONDS)
    first = made[0]
    corrected_school_file(originals / first.id, home.landing / first.id / "corrected.csv", 2)
    measure("one corrected school file", CORRECTED_SECONDS)
    table = pl.DataFrame([asdict(step) for step in steps])
    with pl.Config(tbl_rows=-1, tbl_cols=-1, fmt_str_lengths=40, float_precision=2, tbl_hide_dataframe_shape=True):
        print(table)
    return {
        "students": students,
        "districts": districts,
        "export_bytes": size,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "polars": pl.__version__,
        "steps": [asdict(step) for step in steps],
    }


def write_floor(landing: Path) -> None:
    """Scan the needed columns of every file and write them to Parquet."""
    with tempfile.TemporaryDirectory(prefix="tierline-floor-") as out:
        for district in sorted(landing.iterdir()):
            for number, landed in enumerate(discover(district, district.name)[0]):
                header = read_header(landed.read(), landed.name)
                known = recognise(header, landed.name, layouts())
                if isinstance(known, Recognised) and (positions := sorted(wanted(known.binding))):
                    names = [f"c{at}" for at in range(len(header))]
                    pl.scan_csv(
                        landed.path, has_header=False, skip_rows=1, new_columns=names, infer_schema=False
                    ).select(names[at] for at in positions).sink_parquet(
                        Path(out) / f"{district.name}-{number}.parquet"
                    )


def _child(command: list[str]) -> tuple[float, float]:
    """Wall seconds and peak resident GiB of a process that must succeed."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begun
    code = os.waitstatus_to_exitcode(status)
    process.returncode = code
    if code != 0:
        raise SystemExit(f"{' '.join(command)} ended with {code}")
    return seconds, usage.ru_maxrss / 2**20


if __name__ == "__main__":
    main()
