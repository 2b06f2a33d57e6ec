"""Synthetic districts in the layouts real vendors write, of any size, the same bytes for the same seed.

Nothing in them is real: names are numbered, norms and school names are invented.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from pipelines.simulate.cycles import write_cycles
from pipelines.simulate.fastbridge import write_fastbridge
from pipelines.simulate.map_growth import corrected_school_file, write_map_growth
from pipelines.simulate.people import People, settle
from pipelines.simulate.roster import write_roster
from pipelines.simulate.screeners import write_iready, write_star
from pipelines.simulate.tutoring import write_tutoring

__all__ = ["KINDS", "SimulatedDistrict", "corrected_school_file", "simulate"]

WRITERS: dict[str, Callable[[People, Path, int], list[Path]]] = {
    "roster": lambda people, folder, seed: write_roster(people, folder),
    "map_growth": write_map_growth,
    "iready": write_iready,
    "star": write_star,
    "fastbridge": write_fastbridge,
    "tutoring": write_tutoring,
    "cycles": write_cycles,
}
KINDS = tuple(WRITERS)


@dataclass(frozen=True)
class SimulatedDistrict:
    """One district's files and what was planted in them."""

    id: str
    path: Path
    truth: pl.DataFrame
    """One row per math class: district_id, school_id, grade, class_id, section, scenario, onset, true need shares."""
    files: tuple[Path, ...]


def simulate(
    out: Path,
    *,
    districts: int = 1,
    students: int = 3000,
    seed: int = 1,
    schools: int | None = None,
    first_year: int = 2026,
    kinds: Collection[str] = KINDS,
) -> list[SimulatedDistrict]:
    """Write ``out/<district_id>/<kind>/...`` for each district.

    Args:
        out: The landing folder.
        districts: How many; ids are d001, d002, ...
        students: In all districts together, shared evenly.
        seed: Same seed and arguments, same bytes.
        schools: Schools per district; else one per 375 students.
        first_year: Ending year of the school year, 2026 for 2025-26.
        kinds: Which kinds of files to write.
    """
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        raise ValueError(f"unknown kinds of files: {', '.join(unknown)}. Known: {', '.join(KINDS)}.")
    done = []
    for number in range(1, districts + 1):
        share = students // districts + (number <= students % districts)
        people = settle(f"d{number:03d}", number, share, schools, first_year, seed)
        path = out / people.district_id
        files = [file for kind in KINDS if kind in kinds for file in WRITERS[kind](people, path / kind, seed)]
        done.append(SimulatedDistrict(people.district_id, path, people.truth(), tuple(files)))
    return done
