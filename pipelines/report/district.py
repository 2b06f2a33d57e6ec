"""The overview of a district: what is read as student, classroom, system, or not enough data, and since when."""

from collections.abc import Iterator

from pipelines.report.page import Page
from pipelines.report.reading import Reading


def pages(reading: Reading) -> Iterator[Page]:
    """The first page of the site."""
    yield Page("index.html", "Overview", "district.html", {}, "overview")
