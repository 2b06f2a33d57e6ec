"""Builds a district's site beside the one of before and renames it into place."""

import base64
import os
import posixpath
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

import jinja2
from filelock import FileLock

from pipelines.report import checks, classroom, cycles, district, meetings, method, quality, school, words
from pipelines.report.names import read_names
from pipelines.report.page import SECTIONS, Page
from pipelines.report.reading import NothingToReport, Reading, years_of
from pipelines.reproducible import in_words, not_reproducible
from warehouse.home import Home, refuse_open
from warehouse.swap import restore, take_place

PAGES: tuple[Callable[[Reading], Iterable[Page]], ...] = (
    district.pages,
    school.pages,
    classroom.pages,
    cycles.pages,
    meetings.pages,
    quality.pages,
    checks.pages,
    method.pages,
)
"""What makes the pages, in the order of the navigation."""
OPEN_WITH_NAMES = (0o700, 0o600)
OPEN = (0o750, 0o640)
"""Modes of folders and files: an education record, as the warehouse is."""


@dataclass(frozen=True)
class Built:
    """A site that was built."""

    folder: Path
    pages: int
    bytes: int


@dataclass
class Terms:
    """The words a page explains, noted while it is rendered."""

    used: list[tuple[str, str, str]] = field(default_factory=list)

    def use(self, key: str) -> str:
        """The label of a term, which is then explained at the foot of the page."""
        label, meaning = words.TERMS[key]
        if (key, label, meaning) not in self.used:
            self.used.append((key, label, meaning))
        return label


@dataclass(frozen=True)
class Site:
    """What every page of a site shares."""

    district: str
    year: str
    with_names: bool
    sections: Sequence[tuple[str, str, str]]
    made_of: str
    style: str
    script: str

    @property
    def script_hash(self) -> str:
        """The one script that the page's own policy allows."""
        return "sha256-" + base64.b64encode(sha256(self.script.encode()).digest()).decode()


def build_report(
    home: Home, district_id: str, school_year: str | None = None, *, with_names: bool = False, out: Path | None = None
) -> Built:
    """Build the site of one district.

    Args:
        home: The home; only its published warehouse is read, and with names its vault.
        district_id: District.
        school_year: Year the report is about; the latest with a placement if absent. Trends show the years before.
        with_names: Show names of students and titles of classes, in a folder only its owner can open.
        out: Folder for the site; `reports/` of the home if absent.

    Raises:
        NothingToReport: nothing is published of this district and year.
        NamesRefused: names were asked for and the vault cannot be read.
        HomeError: others can open the folder that names would go to.
    """
    while True:
        with suppress(_PublishedAnew):
            return _built(home, district_id, school_year, with_names, out)


class _PublishedAnew(Exception):
    """The warehouse that was read is no longer the one that is published: somebody may have been erased from it."""


def _built(home: Home, district_id: str, school_year: str | None, with_names: bool, out: Path | None) -> Built:
    before = _published(home)
    names = read_names(home, district_id) if with_names else None
    years = years_of(home, district_id)
    if school_year is not None and school_year not in years:
        known = f" It has {words.listed(years)}." if years else ""
        raise NothingToReport(f"The warehouse has nothing of {district_id} in school year {school_year}.{known}")
    if not years:
        raise NothingToReport(f"The warehouse has nothing of {district_id}. `tierline status` says what is loaded.")
    reading = Reading(home, district_id, school_year or years[-1], names)
    target = (out or home.reports) / (f"{district_id}-with-names" if with_names else district_id)
    if with_names and target.exists():
        refuse_open(target)
    pages = [page for make in PAGES for page in make(reading)]
    with _in_place_of(target, OPEN_WITH_NAMES if with_names else OPEN) as write:
        size = sum(write(page.path, text) for page, text in rendered(reading, pages))
        if _published(home) != before:
            raise _PublishedAnew
    return Built(target, len(pages), size)


def _published(home: Home) -> tuple[int, int] | None:
    """Which file is published; None where there is none."""
    try:
        about = home.warehouse.stat()
    except FileNotFoundError:
        return None
    return about.st_ino, about.st_mtime_ns


def rendered(reading: Reading, pages: Sequence[Page]) -> Iterator[tuple[Page, str]]:
    """Every page as HTML, with style and script inside."""
    site = _site(reading, pages)
    engine = jinja2.Environment(
        loader=jinja2.PackageLoader("pipelines.report", "pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    engine.filters |= FILTERS
    engine.globals |= {"site": site, "levels": words.LEVELS}
    shared = engine.get_template("parts.html")
    for page in pages:
        terms = Terms()
        link = _links_from(page.path)
        parts = shared.make_module({"terms": terms, "link": link})
        text = engine.get_template(page.template).render(page=page, parts=parts, terms=terms, link=link, **page.context)
        yield page, text


FILTERS: dict[str, Callable[..., str]] = {
    "percent": words.percent,
    "number": words.number,
    "decimal": words.decimal,
    "probability": words.probability,
    "day": words.day,
    "yes_no": words.yes_no,
    "measure": words.measure_name,
    "grade": words.grade_name,
}


def _site(reading: Reading, pages: Sequence[Page]) -> Site:
    there = {page.path for page in pages}
    return Site(
        district=reading.district,
        year=words.year_name(reading.school_year),
        with_names=reading.names is not None,
        sections=[(key, label, path) for key, (label, path) in SECTIONS.items() if path in there],
        made_of=_made_of(reading),
        style=_own("style.css"),
        script=_own("script.js").strip(),
    )


def _made_of(reading: Reading) -> str:
    """What the report rests on; no clock, so that the same warehouse gives the same bytes."""
    ledger = reading.table("log.ingest_ledger")
    loaded = ledger.filter(ledger["status"] == "loaded")["recorded_at"].drop_nulls()
    latest = max(loaded, default=None)
    until = "" if latest is None else f" of what was loaded until {words.day(latest.date())} (UTC)"
    return f"Made by Tierline{until}. {in_words(not_reproducible(ledger))}".rstrip()


def _own(name: str) -> str:
    return files("pipelines.report").joinpath("pages", name).read_text("utf-8")


def _links_from(path: str) -> Callable[[str], str]:
    """A function that makes a path of the site relative to the page, so that the folder can lie anywhere."""
    here = posixpath.dirname(path)
    return lambda to: posixpath.relpath(to, here or ".")


@contextmanager
def _in_place_of(target: Path, modes: tuple[int, int]) -> Iterator[Callable[[str, str], int]]:
    """A function that writes a page into a new folder, which takes the target's place at the end, or leaves nothing.

    Two reports of one district wait for each other. What one that was killed left behind is removed by the next.
    """
    for_folders, for_files = modes
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    made = target.with_name(f".{target.name}.building")

    def write(path: str, text: str) -> int:
        file = made / path
        if not file.parent.exists():
            file.parent.mkdir(mode=for_folders)
            file.parent.chmod(for_folders)
        content = text.encode()
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, for_files), "wb") as stream:
            stream.write(content)
        return len(content)

    with FileLock(target.with_name(f".{target.name}.lock"), mode=0o640):
        restore(target)
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(mode=for_folders)
        made.chmod(for_folders)
        try:
            yield write
            take_place(made, target)
        finally:
            shutil.rmtree(made, ignore_errors=True)
