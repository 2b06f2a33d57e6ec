"""What is current in the log, as known at a time: one version of each fact, merged students under one key."""

from collections.abc import Mapping, Sequence

import polars as pl

from schemas.contract import columns
from schemas.events import ALL_YEARS, FAMILIES
from schemas.exports import layouts
from transforms.batches import LONGEST_ENROLMENT_YEARS
from transforms.identity import People, people
from transforms.rows import among, is_among, outside
from transforms.versions import latest_stated, standing, unretracted
from transforms.withdrawals import TEST, scope_of, withdrawn
from warehouse.log import Log, loaded

LISTED = ("roster", "listed")
"""Group kind and value by which a roster names its students."""
PARTITION = ["district_id", "school_year"]
LINK = (
    "district_id",
    "natural_key",
    "content_hash",
    "export_at",
    "loser_key",
    "winner_key",
    "is_reversed",
    "moved_key",
    "to_key",
)
"""What of an ``IdentityEvent`` says who is one student."""
_WHERE_FROM = ("event_id", "source_line", "reason", "schema_version")
"""Columns that no projection is computed from: of a hundred thousand students they take a quarter of a gigabyte."""


def current_facts(
    log: Log,
    districts: Sequence[str],
    ledger: pl.DataFrame,
    families: Sequence[str] = tuple(FAMILIES),
    year_starts: Mapping[str, int] | None = None,
) -> dict[str, pl.DataFrame]:
    """The facts that stand in the batches of ``ledger``, by family, without what only tells where they came from.

    A subject key that was merged is replaced by the key that stands for it. Where a district has a roster, only
    students it lists are kept, so that a test that came before its roster and one that came after mean the same.
    Enrolments stand in each school year that they touch, roster records of every year (`all`) in each that an
    enrolment of theirs touches; ``year_starts`` is the first month of the school year by district, July if not named.
    """
    readings = loaded(ledger)
    known = known_people(log, districts, readings)
    wanted = dict.fromkeys((*families, "description"))
    tables = {family: _standing(log, family, districts, readings, known) for family in wanted}
    listed = (
        tables["description"]
        .filter((pl.col("group_kind") == LISTED[0]) & (pl.col("group_value") == LISTED[1]))
        .select("district_id", "subject_key")
        .unique()
    )
    if listed.height:
        listed = pl.concat([listed, _named_by_people(known).join(listed, on="district_id", how="semi")]).unique()
    tables = {family: _listed_only(rows, listed) for family, rows in tables.items()}
    if "roster" in tables:
        tables["roster"] = _in_their_years(tables["roster"], year_starts or {}).drop("last_export_at")
    return {family: tables[family] for family in families}


def known_people(log: Log, districts: Sequence[str], readings: pl.DataFrame) -> People:
    """Who is one student, as these readings say."""
    return people(log.events("identity", districts, readings).select(LINK).collect())


def standing_retractions(log: Log, family: str, districts: Sequence[str], readings: pl.DataFrame) -> pl.DataFrame:
    """Versions of a family's facts that were taken back and not given again: ``transforms.versions.unretracted``."""
    stated = log.events("log", districts, readings).filter(pl.col("target_family") == family).collect()
    return latest_stated(stated).filter(~pl.col("is_restored").fill_null(value=False))


def _named_by_people(known: People) -> pl.DataFrame:
    """Students to whom a person gave facts: they are known as well as those that a roster lists."""
    return known.of(known.moved.select("district_id", "natural_key", subject_key="to_key")).select(
        "district_id", "subject_key"
    )


def _standing(log: Log, family: str, districts: Sequence[str], readings: pl.DataFrame, known: People) -> pl.DataFrame:
    names = [name for name in columns(FAMILIES[family]) if name not in _WHERE_FROM]
    told = log.events(family, districts, readings).select(names).collect()
    if told.is_empty():  # most districts lack some family
        rows = told.with_columns(last_export_at="export_at")
    else:
        seen = log.sighted(family, districts, readings).collect()
        rows = _versions(seen, told, standing_retractions(log, family, districts, readings))
    if family == "screening":
        extracts = log.extracts(districts, readings)
        if extracts[0].height:
            gone = withdrawn(_scoped(rows.filter(pl.col("layout").is_in(extracts[0]["layout"].implode()))), *extracts)
            rows = outside(rows, gone, TEST)
    if family != "roster":
        rows = rows.drop("last_export_at")
    return known.of(rows)


def standing_tests(
    log: Log, district_id: str, readings: pl.DataFrame, condition: pl.Expr, years: Sequence[str] | None = None
) -> pl.DataFrame:
    """Tests whose events meet a condition, as their last export has them: what ``transforms.withdrawals`` asks of
    tests. Withdrawn or not; years named, of these only."""
    named = [name for name in columns(FAMILIES["screening"]) if name != "strands"]
    told = log.events("screening", [district_id], readings, years).filter(condition).select(named).collect()
    seen = log.sighted("screening", [district_id], readings).join(
        told.lazy().select("natural_key").unique(), on="natural_key", how="semi"
    )
    return _scoped(_versions(seen.collect(), told, standing_retractions(log, "screening", [district_id], readings)))


def _scoped(tests: pl.DataFrame) -> pl.DataFrame:
    within = {layout.id: layout.extract_within for layout in layouts().values()}
    return tests.select(*TEST, "subject_key", "layout", "school_id", "last_export_at", scope=scope_of(within))


def _versions(seen: pl.DataFrame, told: pl.DataFrame, retractions: pl.DataFrame) -> pl.DataFrame:
    """The version of each fact that stands, once for each school year, and the last export that showed it."""
    fact = ["district_id", "natural_key"]  # districts number their schools and classes alike
    again = seen.filter(pl.struct(fact).is_duplicated())
    touched = again.select(fact)
    if retractions.height:
        targets = retractions.select("district_id", natural_key="target_key")
        again = unretracted(pl.concat([again, among(seen, targets, fact)]).unique(), retractions)
        touched = pl.concat([touched, targets])
    stands = standing(again.lazy(), fact).collect()
    kept = [*told.columns, "last_export_at"]
    is_again = is_among(told, touched, fact)
    once = told.filter(~is_again).with_columns(last_export_at="export_at")  # what was told stands
    more = told.filter(is_again).drop("export_at", "layout").join(stands, on=[*fact, "content_hash"])
    rows = pl.concat([once.select(kept), more.select(kept)])
    versions = [*fact, "school_year"]
    if rows.select(pl.struct(versions).is_duplicated().any()).item():
        rows = rows.sort("batch_id", "attempt").unique(versions, keep="first")
    return rows


def _listed_only(rows: pl.DataFrame, listed: pl.DataFrame) -> pl.DataFrame:
    if listed.is_empty():
        return rows
    is_listed = is_among(rows, listed, ["district_id", "subject_key"])
    without_roster = ~pl.col("district_id").is_in(listed["district_id"].unique().implode())
    return rows.filter(is_listed | pl.col("subject_key").is_null() | without_roster)


def _in_their_years(roster: pl.DataFrame, year_starts: Mapping[str, int]) -> pl.DataFrame:
    """Classes, and the courses, terms and schools behind them, in each year in which somebody is enrolled in them."""
    reference = roster.filter(pl.col("school_year") == ALL_YEARS)
    dated = _enrolments(roster.filter(pl.col("school_year") != ALL_YEARS), _class_ends(reference), year_starts)
    if reference.is_empty():
        return dated
    touched = dated.select(*PARTITION, "class_id", "school_id").unique()
    own = reference.drop("school_year")
    classes = own.filter(pl.col("event_type") == "ClassListed").join(
        touched.select(*PARTITION, "class_id").drop_nulls().unique(), on=["district_id", "class_id"]
    )
    terms = classes.select(*PARTITION, term_id=pl.col("term_ids").str.split(";")).explode(
        "term_id", empty_as_null=True, keep_nulls=True
    )
    schools = pl.concat([classes.select(*PARTITION, "school_id"), touched.select(*PARTITION, "school_id")])
    found = [
        dated,
        classes,
        _joined(own, "CourseListed", classes.select(*PARTITION, "course_id"), "course_id"),
        _joined(own, "TermListed", terms, "term_id"),
        _joined(own, "SchoolListed", schools, "school_id"),
    ]
    return pl.concat([each.select(roster.columns) for each in found])


def _class_ends(reference: pl.DataFrame) -> pl.DataFrame:
    """Last day of the terms of each class: `district_id`, `class_id`, `term_end_on`."""
    terms = reference.filter(pl.col("event_type") == "TermListed").select(
        "district_id", "term_id", term_end_on="end_on"
    )
    return (
        reference.filter(pl.col("event_type") == "ClassListed")
        .select("district_id", "class_id", term_id=pl.col("term_ids").str.split(";"))
        .explode("term_id", empty_as_null=True, keep_nulls=True)
        .join(terms, on=["district_id", "term_id"])
        .group_by("district_id", "class_id")
        .agg(pl.col("term_end_on").max())
    )


def _enrolments(rows: pl.DataFrame, class_ends: pl.DataFrame, year_starts: Mapping[str, int]) -> pl.DataFrame:
    """Enrolments and their ends in each school year from the first day to the last, at most five.

    The last day is the end, the end of the class's terms or the last export that showed it, whichever comes first: an
    end planned years ahead says nothing of years that nobody exported. Without a first day and terms, only the year
    that the file named is known.
    """
    starts = pl.col("district_id").replace_strict(year_starts, default=7, return_dtype=pl.Int32)

    def year(day: str) -> pl.Expr:
        return pl.col(day).dt.year() + (pl.col(day).dt.month() >= starts).cast(pl.Int32)

    enrolment = ["district_id", "subject_key", "class_id", "begin_on"]
    is_end = (pl.col("event_type") == "EnrollmentEnded") & ~pl.col("is_deleted").fill_null(False)
    first = pl.coalesce(year("begin_on"), "named")
    last = pl.when(pl.col("begin_on").is_not_null() | pl.col("term_end_on").is_not_null()).then(
        pl.min_horizontal(year("ended_on"), year("term_end_on"), year("told_at"))
    )
    spans = (
        rows.group_by(enrolment)
        .agg(
            named=pl.col("school_year").cast(pl.Int32).min(),
            ended_on=pl.col("end_on").filter(is_end).max(),
            told_at=pl.col("last_export_at").max(),
        )
        .join(class_ends, on=["district_id", "class_id"], how="left")
        .select(
            *enrolment,
            _years=pl.int_ranges(first, last.fill_null(first).clip(first, first + LONGEST_ENROLMENT_YEARS - 1) + 1),
        )
    )
    return (
        rows.unique(["district_id", "natural_key"], keep="first", maintain_order=True)
        .join(spans, on=enrolment, how="left", nulls_equal=True)
        .with_columns(school_year=pl.col("_years").cast(pl.List(pl.String)))
        .explode("school_year", empty_as_null=True, keep_nulls=True)
        .drop("_years")
    )


def _joined(records: pl.DataFrame, event_type: str, named: pl.DataFrame, key: str) -> pl.DataFrame:
    return records.filter(pl.col("event_type") == event_type).join(named.drop_nulls().unique(), on=["district_id", key])


def fingerprints(facts: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Hash of the current facts of each family, district and school year: `family`, partition, `facts_hash`.

    Built from natural keys, content hashes and the key each student is shown under, sorted by the first 64 bits of
    the natural key, and nothing else, so that the order in which files arrived cannot be told from it.
    """
    rows = [
        table.select(
            *PARTITION,
            order=pl.col("natural_key").str.slice(0, 16).str.to_integer(base=16, dtype=pl.UInt64),
            fact=pl.concat_str(
                [
                    "natural_key",
                    "content_hash",
                    pl.col("subject_key").fill_null(""),
                    pl.col("export_at").to_physical(),
                    "layout",
                ],
                separator=":",
            ),
        )
        .sort("order")
        .group_by(PARTITION)
        .agg(pl.col("fact").str.join("\n"))
        .select(*PARTITION, family=pl.lit(family), facts_hash=pl.col("fact").chash.sha2_256())  # type: ignore[attr-defined]
        for family, table in facts.items()
        if table.height
    ]
    schema = {"district_id": pl.String, "school_year": pl.String, "family": pl.String, "facts_hash": pl.String}
    return pl.concat([pl.DataFrame(schema=schema), *rows])


def digests(rows: pl.DataFrame, by: Sequence[str], name: str) -> pl.DataFrame:
    """Hash, as ``name``, of all that the rows of each group say; their order is not told."""
    return (
        rows.select(*by, said=pl.struct(pl.exclude(by)).struct.json_encode())
        .sort("said")
        .group_by(by)
        .agg(pl.col("said").str.join("\n").chash.sha2_256().alias(name))  # type: ignore[attr-defined]
    )
