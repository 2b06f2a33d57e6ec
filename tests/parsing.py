"""Reading exports in tests: text through landing, recognition and parsing, as the loader does."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from schemas.exports import Binding, Layout, layouts
from transforms.exports import Context, Parsed, parse, wanted
from transforms.recognition import Held, Recognised, recognise
from warehouse.landing import read_header, read_table

EXPORTS = Path(__file__).parent / "exports"
SAMPLES = Path(__file__).resolve().parents[2] / "shared" / "samples"
EXPORTED = datetime(2026, 10, 1, tzinfo=UTC)


def made(**parts: object) -> Layout:
    """A layout of a vendor that does not exist."""
    return Layout.model_validate({"id": "made", "title": "Made", "vendor": "None", "source": "None", **parts})


def read(
    data: bytes | str,
    layout: Layout | None = None,
    name: str = "export.csv",
    vocabulary: tuple[str, ...] = (),
    time_zone: str = "America/Denver",
) -> tuple[Binding, Parsed]:
    """A file that must be recognised, read."""
    content = data.encode() if isinstance(data, str) else data
    known = {layout.id: layout} if layout else layouts()
    found = recognise(read_header(content, name), name, known)
    assert isinstance(found, Recognised), found
    table = read_table(content, name, wanted(found.binding))
    context = Context("d1", name, EXPORTED, time_zone, section_vocabulary=vocabulary)
    return found.binding, parse(table.rows, found.binding, context)


def sample(layout_id: str, vocabulary: tuple[str, ...] = ()) -> Parsed:
    """The synthetic sample of a layout, read."""
    return read((EXPORTS / f"{layout_id}.csv").read_bytes(), name=f"{layout_id}.csv", vocabulary=vocabulary)[1]


def real(path: str) -> bytes:
    """A real file, where the samples are beside the repository."""
    if not SAMPLES.is_dir():
        pytest.skip("The real samples are not beside this repository.")
    return (SAMPLES / path).read_bytes()


def held(header: str, layout: Layout | None = None, name: str = "export.csv") -> Held:
    """Why a header is held."""
    found = recognise(header.split(","), name, {layout.id: layout} if layout else layouts())
    assert isinstance(found, Held), found
    return found


def outcomes(parsed: Parsed) -> list[str]:
    """The outcome of each row, in the order of the file."""
    return parsed.outcomes.sort("source_line")["outcome"].to_list()


def rejections(parsed: Parsed) -> list[tuple[int, int | None, str, str]]:
    """Line, slot, column and rule of every broken cell."""
    return parsed.rejected.rows()


def facts(parsed: Parsed, family: str, *columns: str) -> list[tuple[object, ...]]:
    """Some columns of a family's facts, in the order of the file."""
    return parsed.facts[family].select(columns).rows()


def assert_adds_up(parsed: Parsed, data_rows: int) -> None:
    """Both sums hold: of rows, and of the facts of parsed rows."""
    assert parsed.outcomes.height == parsed.outcomes["source_line"].n_unique() == data_rows
    assert set(parsed.outcomes["outcome"]) <= {"parsed", "rejected", "out_of_scope"}
    read_rows = parsed.outcomes.filter(pl.col("outcome") == "parsed").height
    stated = sum(frame.height for frame in parsed.facts.values())
    assert stated + parsed.facts_empty + parsed.facts_rejected == read_rows * parsed.slots
    bad_rows = set(parsed.outcomes.filter(pl.col("outcome") == "rejected")["source_line"])
    assert set(parsed.rejected.filter(pl.col("slot").is_null())["source_line"]) == bad_rows
    bad_slots = parsed.rejected.filter(pl.col("slot").is_not_null()).select("source_line", "slot").unique()
    assert bad_slots.height == parsed.facts_rejected
