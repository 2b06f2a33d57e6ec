"""The event log on Delta Lake: append a batch, write its ledger row last, read what was seen and what is current."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Literal

import polars as pl

from schemas.contract import columns
from schemas.events import ALL_YEARS, FAMILIES, ExtractGap, ExtractScope, Note, ParkedRow, Sighting
from schemas.projections import IngestLedger, RejectedRow
from schemas.upcasts import upcast
from warehouse.delta import Table
from warehouse.home import Home

READING = ["batch_id", "attempt"]
PACKED = ["natural_key", "export_at", "content_hash", "batch_id", "attempt"]
"""Order of packed sightings: the keys and contents of one fact lie side by side, and take no room twice."""
MOST_PACKED = 6_000_000
"""Sightings of a district and family that are sorted at once, in some 3 GB; more stay as they were written."""
POLICY = "policy"
"""Layout under which a district's policy stands in the ledger."""
STATEMENT = "statement"
"""Layout under which stands what a person stated by command."""


Known = Literal["recorded", "received"]
"""Since when a file counts as known: when this home recorded it, or the day a backfill says it was received."""


class Log:
    """Tables of one home's log. A batch exists once its ledger row does; what a crash left is never seen."""

    def __init__(self, home: Home, storage_options: Mapping[str, str] | None = None) -> None:
        def table(contract: type, partition_by: Sequence[str], name: str | None = None, root: str = home.log) -> Table:
            return Table(root, contract, partition_by, name, storage_options if root == home.log else None)

        self.families = {
            family: table(contract, ("district_id", "school_year"), family) for family, contract in FAMILIES.items()
        }
        self.sightings = table(Sighting, ("district_id", "family"))
        self.extract_scopes = table(ExtractScope, ("district_id",))
        self.extract_gaps = table(ExtractGap, ("district_id",))
        self.ledger = table(IngestLedger, ("district_id",))
        self.rejected = table(RejectedRow, ("district_id",))
        self.parked = table(ParkedRow, ("district_id",))
        self.notes = table(Note, ("district_id",), root=str(home.notes))

    def ledger_rows(
        self, districts: Sequence[str] | None = None, as_of: datetime | None = None, by: Known = "recorded"
    ) -> pl.DataFrame:
        """Ledger rows, oldest first, as known at a time; by ``received``, what a backfill declares received by then."""
        rows = self.ledger.scan(**_in(districts))
        if as_of is not None:
            known_at = pl.col("recorded_at")
            if by == "received":
                known_at = pl.coalesce(
                    pl.col("received_on").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"), known_at
                )
            rows = rows.filter(known_at <= as_of)
        return rows.sort("recorded_at").collect()

    def seen(self, district_id: str, family: str, keys: pl.Series, loaded: pl.DataFrame) -> pl.DataFrame:
        """Sightings of these natural keys in loaded batches: `natural_key`, `content_hash`, `export_at`."""
        return (
            self.sightings.scan(district_id=[district_id], family=[family])
            .join(keys.to_frame("natural_key").lazy().unique(), on="natural_key", how="semi")
            .join(loaded.lazy().select(READING), on=READING, how="semi")
            .select("natural_key", "content_hash", "export_at")
            .collect()
        )

    def sighted(self, family: str, districts: Sequence[str], loaded: pl.DataFrame) -> pl.LazyFrame:
        """All sightings of a family in loaded batches, with the layout that read them."""
        return self.sightings.scan(district_id=districts, family=[family]).join(
            loaded.lazy().select(*READING, "layout"), on=READING
        )

    def events(
        self, family: str, districts: Sequence[str], loaded: pl.DataFrame, years: Sequence[str] | None = None
    ) -> pl.LazyFrame:
        """Every version of every fact of a family in loaded batches; years named, and what every year reads.

        What an older version wrote is said in the words of this one.
        """
        return upcast(self.stored_events(family, districts, loaded, years), family)

    def stored_events(
        self, family: str, districts: Sequence[str], loaded: pl.DataFrame, years: Sequence[str] | None = None
    ) -> pl.LazyFrame:
        """The same as they were written: what their hashes are of."""
        named = {"school_year": [*years, ALL_YEARS]} if years is not None else {}
        return (
            self.families[family]
            .scan(district_id=districts, **named)
            .join(loaded.lazy().select(READING), on=READING, how="semi")
        )

    def extracts(self, districts: Sequence[str], loaded: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """``ExtractScope`` and ``ExtractGap`` rows of loaded full extracts."""
        scopes, gaps = (
            table.scan(district_id=districts).join(loaded.lazy().select(READING), on=READING, how="semi").collect()
            for table in (self.extract_scopes, self.extract_gaps)
        )
        return scopes, gaps

    def append(
        self,
        batch_id: str,
        attempt: int,
        facts: Mapping[str, pl.DataFrame],
        sightings: pl.DataFrame,
        rejected: pl.DataFrame,
        parked: pl.DataFrame,
        notes: pl.DataFrame,
    ) -> None:
        """Everything of one reading of a file but its ledger row; nothing of it is seen before that."""
        transaction = f"{batch_id}:{attempt}"
        stated = [(self.sightings, sightings), *((self.families[family], rows) for family, rows in facts.items())]
        with ThreadPoolExecutor(len(stated)) as pool:  # each table has a log of its own, and writes with one core
            for done in [pool.submit(table.append, rows, transaction) for table, rows in stated if rows.height]:
                done.result()
        self.rejected.append(rejected, transaction)
        self.parked.append(parked, transaction)
        self.notes.append(notes, transaction)

    def append_extract(self, batch_id: str, attempt: int, scopes: pl.DataFrame, gaps: pl.DataFrame) -> None:
        """What one reading of a full extract speaks of; not seen before its ledger row either."""
        self.extract_scopes.append(scopes, f"{batch_id}:{attempt}")
        self.extract_gaps.append(gaps, f"{batch_id}:{attempt}")

    def pack(self, district_id: str, renew: Callable[[], None] = lambda: None) -> list[str]:
        """Rewrite a district's sightings in the order of their keys where that pays; returns the families.

        It pays where the exports repeat themselves, so that there are more than twice as many sightings as events, and
        where they have doubled since they were packed last, so that a sighting is rewritten a few times in all. Every
        sighting stays: what was known at any time cannot change (decision 10). The caller holds the district's lease.
        """
        packed = []
        for family, files in self.sightings.rows_by_file_of("family", district_id=district_id).items():
            if not 2 * max(files) < sum(files) <= MOST_PACKED:
                continue
            renew()
            events = sum(self.families[family].rows_by_file(district_id=district_id))
            if 2 * events < sum(files) and self.sightings.pack(PACKED, (district_id, family)):
                packed.append(family)
        return packed

    def record(self, row: Mapping[str, object]) -> None:
        """Write a ledger row: from now on its batch exists."""
        self.ledger.append(pl.DataFrame([row], schema=columns(IngestLedger), strict=False))


def loaded(ledger: pl.DataFrame) -> pl.DataFrame:
    """Readings that exist: `batch_id`, `attempt`, `layout`."""
    return ledger.filter(pl.col("status") == "loaded").select(*READING, "layout")


def redactions(ledger: pl.DataFrame) -> dict[str, str]:
    """Hash of the archived file of each batch that is kept without the lines of erased students."""
    marked = ledger.drop_nulls("redacted_hash").sort("recorded_at", "attempt")
    return dict(marked.select("batch_id", "redacted_hash").rows())


def exports(ledger: pl.DataFrame) -> pl.DataFrame:
    """Ledger rows of files that landed: all but those of policies and statements."""
    return ledger.filter(~pl.col("layout").is_in([POLICY, STATEMENT]).fill_null(value=False))


def _in(districts: Sequence[str] | None) -> dict[str, Sequence[str]]:
    return {} if districts is None else {"district_id": districts}
