"""What follows linked students from other districts: their tiers, what fall said, and who computed with an older one.

Tables of other districts are read as they stand. What one window says rests on earlier windows alone, so districts that
read each other's tables come to rest, and where they come to rest does not depend on where they began.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import polars as pl

from pipelines.facts import PARTITION, digests
from pipelines.lending import STANDS_ON
from pipelines.links import arrived
from schemas.projections import NeedLevel, Projection, TierPlacement
from warehouse.projections import Projections

FROM_ELSEWHERE = "history from other districts"
"""Name under which a partition's state keeps the hash of what followed its students from other districts."""
OF_OTHERS = (STANDS_ON, FROM_ELSEWHERE)
"""Names in the states that are no projection's."""
_WINDOW = ("school_year", "benchmark_window")


@dataclass(frozen=True)
class Came:
    """What followed linked students from other districts, under their own district and key."""

    before: pl.DataFrame
    """``TierPlacement`` rows of the year before."""
    tiers: pl.DataFrame
    """``TierPlacement`` rows of the year."""
    fall: pl.DataFrame
    """``NeedLevel`` rows of its fall."""

    def of(self, *parts: pl.DataFrame) -> pl.DataFrame:
        """Hash of these rows of each district: `district_id`, `before`."""
        found = [digests(rows.drop("input_id"), ["district_id"], "before") for rows in parts]
        return pl.concat(found).group_by("district_id", maintain_order=True).agg(pl.col("before").str.join("\n"))


@dataclass(frozen=True)
class Elsewhere:
    """Where the history of linked students stands."""

    projections: Projections
    lenders: Projections
    links: pl.DataFrame
    """``pipelines.links.linked``, of the whole home."""
    ledger: pl.DataFrame
    """Ledger rows of the whole home."""

    def came(self, districts: Collection[str], year: str) -> Came:
        """What followed the students of these districts into a school year."""
        links = self.links.filter(pl.col("district_id").is_in(list(districts)))
        years = [str(int(year) - 1)] if year.isdecimal() else []
        tiers = self._rows(links, TierPlacement, [*years, year], _WINDOW)
        levels = self._rows(links, NeedLevel, [year], [*_WINDOW, "measure"])
        fall = levels.filter(pl.col("benchmark_window") == "fall", pl.col("need_level").is_not_null())
        this_year = pl.col("school_year") == year
        return Came(tiers.filter(~this_year), tiers.filter(this_year), fall)

    def _rows(
        self, links: pl.DataFrame, contract: type[Projection], years: Sequence[str], key: Sequence[str]
    ) -> pl.DataFrame:
        everything = pl.lit(value=True)
        stores = [(self.projections, everything)]
        if self.lenders is not self.projections and links.height:
            own = self.projections.partitions.scan().select("district_id").unique().collect()["district_id"]
            stores.append((self.lenders, ~pl.col("district_id").is_in(own.implode())))
        return arrived(links, stores, contract, years, key)


def due(projections: Projections, elsewhere: Elsewhere, school_year: str | None) -> list[str]:
    """Districts of which a school year was computed with another history of linked students than now stands."""
    states = projections.partitions.scan().collect()
    kept = states.filter(pl.col("projection") == FROM_ELSEWHERE)
    if elsewhere.links.is_empty() and kept.is_empty():
        return []
    found: set[str] = set()
    years = states["school_year"].unique().sort().to_list()
    for year in years if school_year is None else [school_year]:
        there = states.filter(pl.col("school_year") == year)
        came = elsewhere.came(there["district_id"].unique(), year)
        again = with_arrivals(kept, came, year, there)
        for one, other in ((kept, again), (again, kept)):
            found |= set(one.join(other, on=one.columns, how="anti")["district_id"])
    return sorted(found)


def with_arrivals(states: pl.DataFrame, came: Came, year: str, there: pl.DataFrame) -> pl.DataFrame:
    """The states, with what now followed into a school year; ``there`` are the district-years that exist."""
    is_arrival = (pl.col("projection") == FROM_ELSEWHERE) & (pl.col("school_year") == year)
    now = (
        came.of(came.before, came.tiers, came.fall)
        .with_columns(school_year=pl.lit(year), projection=pl.lit(FROM_ELSEWHERE))
        .join(there.select(PARTITION).unique(), on=PARTITION, how="semi")
        .select(*PARTITION, "projection", input_id=pl.col("before").chash.sha2_256())  # type: ignore[attr-defined]
    )
    return pl.concat([states.filter(~is_arrival), now.select(states.columns)])


def both(one: pl.DataFrame, other: pl.DataFrame) -> pl.DataFrame:
    """Both hashes of each district as one; where there is one alone, that: `district_id`, `before`."""
    hashes = one.join(other, on="district_id", how="full", coalesce=True, suffix="_other")
    hashed = pl.concat_str(["before", "before_other"], separator="\n", ignore_nulls=True)
    return hashes.select("district_id", before=hashed)
