"""A home in a temporary folder with injected clock, keys and secret: land files, load, refresh, look."""

import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from pipelines.facts import current_facts
from pipelines.loading import Loader, LoadReport, Sources
from pipelines.refresh import RefreshReport, refresh
from schemas.contract import table_name
from schemas.events import FAMILIES
from schemas.projections import PROJECTIONS
from warehouse.home import Home
from warehouse.log import Log, loaded
from warehouse.projections import Projections
from warehouse.vault import derived_keys

SECRET = bytes(range(32))
POLICY = 'time_zone = "America/Denver"\n'
ROW_OUTCOMES = ("parsed", "rejected", "out_of_scope", "parked", "erased", "duplicate_in_file")
FACT_OUTCOMES = ("facts_appended", "facts_corrected", "facts_unchanged", "facts_empty", "facts_rejected")
MAP_HEADER = (
    "TermName,SchoolName,StudentID,Student_StateID,Subject,GrowthMeasureYN,TestType,TestName,TestID,TestStartDate,"
    "TestStartTime,TestRITScore,TestStandardError,TestPercentile"
)
USERS_HEADER = (
    "sourcedId,status,dateLastModified,enabledUser,orgSourcedIds,role,username,userIds,givenName,familyName,"
    "middleName,identifier,email,sms,phone,agentSourcedIds,grades,password"
)


class Clock:
    """One second later each time it is asked."""

    def __init__(self, start: datetime = datetime(2026, 7, 1, tzinfo=UTC)) -> None:
        self.now = start

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


class Place:
    """One home; its files, log and projections are real."""

    def __init__(self, root: Path, policy: str = POLICY, district: str = "d1") -> None:
        self.home = Home(root / "home").make()
        self.district = district
        self.clock = Clock()
        self.set_policy(policy)

    def copy(self, root: Path) -> "Place":
        """The same home in another folder, at the same time of its clock."""
        shutil.copytree(self.home.root, root / "home")
        made = Place(root, (self.home.policies / f"{self.district}.toml").read_text(), self.district)
        made.clock = Clock(self.clock.now)
        return made

    @property
    def log(self) -> Log:
        return Log(self.home)

    @property
    def projections(self) -> Projections:
        return Projections(self.home.projections)

    @property
    def landing(self) -> Path:
        return self.home.landing / self.district

    def sources(self) -> Sources:
        return Sources(clock=self.clock, keys=derived_keys(SECRET), secret=SECRET)

    def set_policy(self, text: str) -> None:
        (self.home.policies / f"{self.district}.toml").write_text(text)

    def land(self, name: str, content: str | bytes) -> Path:
        path = self.landing / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def load(self, name: str | None = None, content: str | bytes = "") -> LoadReport:
        """Land one file, if named, and load what landed; every ledger row adds up."""
        if name is not None:
            self.land(name, content)
        loader = Loader(self.home, self.sources())
        try:
            report = loader.load(self.district)
        finally:
            loader.vault.close()
        for row in report.rows:
            assert_balanced(row)
        return report

    def refresh(self) -> RefreshReport:
        return refresh(self.log, self.projections, {self.district: self.home.policy(self.district)})

    def ledger(self) -> pl.DataFrame:
        """Ledger rows of the files; those of the policy are left out."""
        return self.log.ledger_rows([self.district]).filter(pl.col("layout").ne_missing("policy"))

    def events(self, family: str = "screening") -> pl.DataFrame:
        """Events that readers see."""
        return self.log.events(family, [self.district], loaded(self.log.ledger_rows([self.district]))).collect()

    def all_events(self) -> int:
        """Rows of every family but the policy's, whether readers see them or not."""
        return sum(self.log.families[family].scan().collect().height for family in FAMILIES if family != "rules")

    def tables(self) -> dict[str, pl.DataFrame]:
        """Every projection, rows in a fixed order."""
        return read_tables(self.projections)

    def table(self, name: str) -> pl.DataFrame:
        contract = next(contract for contract in PROJECTIONS if table_name(contract) == name)
        return self.projections.read(contract).collect()

    def current_scores(self) -> list[float]:
        """Scores of the tests that stand, in order."""
        facts = current_facts(self.log, [self.district], self.ledger(), ["screening"])
        return facts["screening"]["score"].sort().to_list()


def read_tables(projections: Projections) -> dict[str, pl.DataFrame]:
    """Every projection, by name, rows in a fixed order."""
    found = {}
    for contract in PROJECTIONS:
        rows = projections.read(contract).collect()
        found[table_name(contract)] = rows.sort([n for n, t in rows.schema.items() if not t.is_nested()])
    return found


def assert_balanced(row: Mapping[str, object]) -> None:
    """Both balances of one ledger row (SEMANTICS 2.2)."""
    number: Callable[[str], int] = lambda name: int(str(row[name] or 0))  # noqa: E731
    if row["status"] == "held":
        assert row["parsed"] is None
        assert row["message"]
        return
    assert sum(map(number, ROW_OUTCOMES)) == number("data_rows")
    assert sum(map(number, FACT_OUTCOMES)) == number("parsed") * number("slots")


def map_row(
    student: str,
    score: object,
    *,
    test: str = "",
    term: str = "Fall 2025-2026",
    school: str = "Elm",
    day: str = "09/10/2025",
    time: str = "09:00:00",
    subject: str = "Mathematics",
    growth: str = "TRUE",
    error: object = 3,
    percentile: object = 30,
    state: str = "",
) -> str:
    """One row of a MAP Growth AssessmentResults file."""
    cells = (
        term, school, student, state, subject, growth, "Survey With Goals", "Growth: Math 2-5", test or f"t{student}",
        day, time, score, error, percentile,
    )  # fmt: skip
    return ",".join(map(str, cells))


def map_file(*rows: str) -> str:
    return "\n".join((MAP_HEADER, *rows)) + "\n"


def users_file(*students: str, grade: str = "04", school: str = "s1", state: str = "") -> str:
    """OneRoster 1.1 users: each student's sourcedId is `S` and their local id; the state id ``state`` and that."""
    ids = {each: f"{{State:{state}{each}}}" if state else "" for each in students}
    rows = (
        f"S{each},active,,true,{school},student,u{each},{ids[each]},Given{each},Family{each},,{each},,,,,{grade},"
        for each in students
    )
    return "\n".join((USERS_HEADER, *rows)) + "\n"
