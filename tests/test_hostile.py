"""Files that mean harm: refused or held by a rule, without filling the memory, and nothing else is hurt."""

import gzip
import io
import json
import os
import re
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import xlsxwriter

from schemas.exports import layouts
from tests.homes import Place, map_file, map_row
from transforms.recognition import Held, recognise
from warehouse import lines, packed
from warehouse.landing import UnreadableExport, discover, read_header, read_table

GOOD = map_file(map_row("1", 186), map_row("2", 190))


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return data.getvalue()


def lying(data: bytes, size: int) -> bytes:
    """The same archive, whose directory and headers say another size of every file."""
    text = bytearray(data)
    for mark, at in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        start = -1
        while (start := text.find(mark, start + 1)) >= 0:
            text[start + at : start + at + 4] = struct.pack("<I", size)
    return bytes(text)


def workbook(change: Callable[[str, bytes], bytes] = lambda _, part: part, sheet: str = "Fall") -> bytes:
    """Two columns and a row, its parts changed at will."""
    data = io.BytesIO()
    with xlsxwriter.Workbook(data) as book:
        page = book.add_worksheet(sheet)
        for row, cells in enumerate((("a", "b"), ("1", "two"))):
            page.write_row(row, 0, cells)
    with zipfile.ZipFile(data) as made:
        return zipped({name: change(name, made.read(name)) for name in made.namelist()})


def sheet(old: bytes, new: bytes) -> Callable[[str, bytes], bytes]:
    return lambda name, part: re.sub(old, new, part) if name.startswith("xl/worksheets/sheet") else part


def rules(tmp_path: Path, name: str, data: bytes) -> list[str]:
    """What becomes of a file beside a good one, which always lands."""
    (tmp_path / "good.csv").write_text(GOOD)
    (tmp_path / name).write_bytes(data)
    landed, refused = discover(tmp_path, "d1")
    assert "good.csv" in [each.name for each in landed]
    return [each.rule for each in refused]


# Bombs


def test_what_an_archive_says_of_its_sizes_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packed, "SUSPECT_BYTES", 10 << 20)
    data = lying(zipped({"x.csv": bytes(50 << 20)}), 1000)
    tracemalloc.start()
    assert rules(tmp_path, "r.zip", data) == ["zip_bomb"]
    assert tracemalloc.get_traced_memory()[1] < 30 << 20
    tracemalloc.stop()


def test_a_file_that_is_longer_than_its_archive_says_is_refused(tmp_path: Path):
    assert rules(tmp_path, "r.zip", lying(zipped({"x.csv": b"a,b\n" * 100}), 8)) == ["broken_archive"]


def test_files_that_share_their_bytes_are_counted_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The directory names the same packed bytes many times, so that no file alone is too large."""
    monkeypatch.setattr(packed, "SUSPECT_BYTES", 2 << 20)
    one = zipped({"00.csv": b"0" * (1 << 20)})
    at, end = one.index(b"PK\x01\x02"), one.index(b"PK\x05\x06")
    entries = [one[at:end].replace(b"00.csv", f"{n:02}.csv".encode()) for n in range(50)]
    tail = bytearray(one[end:])
    tail[8:16] = struct.pack("<HHI", 50, 50, len(b"".join(entries)))
    assert rules(tmp_path, "r.zip", one[:at] + b"".join(entries) + bytes(tail)) in (["zip_bomb"], ["broken_archive"])


def test_a_directory_of_a_million_names_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packed, "MOST_DIRECTORY", 10_000)
    assert rules(tmp_path, "r.zip", zipped({f"{n}.csv": b"a" for n in range(300)})) == ["zip_bomb"]


def test_archives_in_archives_are_not_opened(tmp_path: Path):
    bomb = zipped({"x.csv": bytes(1 << 20)})
    for _ in range(5):
        bomb = zipped({"in.zip": bomb, "also": bomb})
    assert rules(tmp_path, "r.zip", bomb) == ["nested_archive"] * 2


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_ways_of_packing_are_refused(tmp_path: Path, method: int):
    assert rules(tmp_path, "r.zip", zipped({"x.csv": b"a,b\n"}, method)) == ["unsupported_archive"]


def test_a_gz_of_zeros_stops_where_it_is_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packed, "SUSPECT_BYTES", 1 << 20)
    assert rules(tmp_path, "x.csv.gz", gzip.compress(bytes(50 << 20))) == ["zip_bomb"]


# Names


@pytest.mark.parametrize("kind", [0o120000, 0o060000, 0o010000])
def test_links_and_devices_in_archives_are_refused(tmp_path: Path, kind: int):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        member = zipfile.ZipInfo("roster.csv")
        member.external_attr = (kind | 0o777) << 16
        archive.writestr(member, "/etc/passwd")
    assert rules(tmp_path, "r.zip", data.getvalue()) == ["unsafe_path"]


@pytest.mark.parametrize("name", ["x" * 256 + ".csv", "ü" * 130 + ".csv", "/".join(["x" * 90] * 20) + ".csv"])
def test_names_that_no_file_can_have_are_refused(tmp_path: Path, name: str):
    assert rules(tmp_path, "r.zip", zipped({name: b"a\n"})) == ["unsafe_path"]


@pytest.mark.parametrize("name", ["a!..", "a!.hidden", "a!~$b.csv", "~!.csv"])
def test_a_file_that_could_not_be_kept_under_its_name_is_refused(tmp_path: Path, name: str):
    assert rules(tmp_path, name, b"a,b\n1,2\n") == ["unsafe_path"]


def test_a_sheet_that_could_not_be_kept_under_its_name_is_refused(tmp_path: Path):
    data = io.BytesIO()
    with xlsxwriter.Workbook(data) as book:
        for name in ("Fall", "A0"):
            book.add_worksheet(name).write(0, 0, "a")
    with zipfile.ZipFile(data) as made:
        parts = {name: made.read(name).replace(b'name="A0"', b'name=".."') for name in made.namelist()}
    assert rules(tmp_path, "x.xlsx", zipped(parts)) == ["unsafe_path"]


def test_names_are_shown_without_what_a_terminal_would_obey(tmp_path: Path):
    (tmp_path / "\x1b[2J\u202ered.csv").write_bytes(b"a\n")
    (tmp_path / os.fsdecode(b"Jos\xe9.csv")).write_bytes(b"b\n")
    (tmp_path / "r.zip").write_bytes(zipped({"\x1b]0;x\x07/in.csv": b"c\n", "e.csv": b""}))
    landed, refused = discover(tmp_path, "d1")
    names = [each.name for each in (*landed, *refused)]
    assert sorted(names) == [
        "Jos\\udce9.csv",
        "\\x1b[2J\\u202ered.csv",
        "r.zip!\\x1b]0;x\\x07/in.csv",
        "r.zip!e.csv",
    ]
    assert all(each.read() for each in landed)


def test_files_of_odd_names_are_loaded_and_kept(tmp_path: Path):
    place = Place(tmp_path)
    for number, name in enumerate(
        (b"Jos\xe9.csv", b"\x1b[31m.csv", b"x" * 251 + b".csv", "Fall\u202f2025.csv".encode())
    ):
        (place.landing).mkdir(exist_ok=True)
        (place.landing / os.fsdecode(name)).write_text(map_file(map_row(str(number), 186)))
    rows = place.load().rows
    assert [row["status"] for row in rows] == ["loaded"] * 4
    assert not list(place.landing.iterdir())
    assert len([path for path in place.home.archive.rglob("*") if path.is_file()]) == 4
    assert all(str(row["file"]).isprintable() for row in rows)


@pytest.mark.parametrize("seconds", [-(10**11), 10**14])
def test_a_time_no_clock_shows_is_refused(tmp_path: Path, seconds: int):
    path = tmp_path / "x.csv"
    path.write_bytes(b"a\n")
    try:
        os.utime(path, (seconds, seconds))
    except OSError:
        pytest.skip("the file system has no such time")
    _, refused = discover(tmp_path, "d1")
    assert [each.rule for each in refused] == ["unreadable_file"]


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31"])
def test_a_day_out_of_range_is_no_day(tmp_path: Path, day: str):
    place = Place(tmp_path)
    (row,) = place.load(f"{day}/received-{day}/map.csv", GOOD).rows
    assert row["status"] == "loaded"
    assert row["export_at"].year not in (1, 9999) and row["received_on"] is None  # type: ignore[attr-defined]


# Workbooks


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (sheet(rb'<dimension[^>]*>|r="B2"', lambda at: b"" if at[0][:1] == b"<" else b'r="XFD1048576"'), "vast_sheet"),
        (sheet(rb'r="B2"', b'r="xfd1048576"'), "vast_sheet"),
        (sheet(rb'r="B2"', b"  r = 'XFD1048576'"), "vast_sheet"),
        (sheet(rb'r="B2"', b's=">" r="XFD1048576"'), "vast_sheet"),
        (sheet(rb'r="B2"', b'r="&#88;FD1048576"'), "broken_archive"),
        (sheet(rb'r="B2"', b'r="XFD99999999999999"'), "vast_sheet"),
        (lambda name, part: part.replace(b"<sst ", b"<!DOCTYPE x><sst "), "unsafe_workbook"),
        (lambda _, part: part.replace(b"<sst ", b'<!ENTITY e SYSTEM "file:///x"><sst '), "unsafe_workbook"),
        (lambda name, part: part.replace(b"two", b"x" * (3 << 20)), "broken_archive"),
    ],
)  # fmt: skip
def test_workbooks_that_reach_too_far_or_fetch_are_refused(tmp_path: Path, change, rule: str):
    assert rules(tmp_path, "x.xlsx", workbook(change)) == [rule]
    with pytest.raises(UnreadableExport):
        read_table(workbook(change), "x.xlsx")


def test_a_text_that_many_cells_share_is_counted_in_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packed, "MOST_TEXT", 100_000)
    cells = b"".join(b'<row r="%d"><c r="A%d" t="s"><v>2</v></c></row>' % (row, row) for row in range(3, 103))

    def change(name: str, part: bytes) -> bytes:
        part = part.replace(b"</sheetData>", cells + b"</sheetData>")
        return part.replace(b"<t>1</t>", b"<t>" + b"x" * 2_000 + b"</t>")

    assert rules(tmp_path, "x.xlsx", workbook(change)) == ["zip_bomb"]
    monkeypatch.setattr(packed, "MOST_TEXT", 1_000_000)
    assert rules(tmp_path, "x.xlsx", workbook(change)) == []


def test_a_workbook_is_a_bomb_like_any_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packed, "SUSPECT_BYTES", 1 << 20)
    blank = workbook(lambda name, part: part + b" " * (5 << 20) if "sheet1" in name else part)
    assert rules(tmp_path, "x.xlsx", blank) == ["zip_bomb"]


def test_cells_without_places_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bare = workbook(sheet(rb' r="[A-Z]*\d+"', b""))
    assert rules(tmp_path, "x.xlsx", bare) == []
    monkeypatch.setattr(packed, "MOST_CELLS", 3)
    assert rules(tmp_path, "x.xlsx", bare) == ["vast_sheet"]


def test_binary_workbooks_are_refused(tmp_path: Path):
    assert rules(tmp_path, "x.xlsb", zipped({"xl/workbook.bin": b"x"})) == ["unsupported_archive"]


def test_a_workbook_of_escapes_loses_the_row(tmp_path: Path):
    data = workbook(lambda name, part: part.replace(b"<t>two</t>", b"<t>_x001B_[31mred</t>"))
    table = read_table(data, "x.xlsx")
    assert (table.rows.height, table.damaged.rows()) == (0, [(2, None, "control_character")])


# Text


@pytest.mark.parametrize("shape", ["csv", "xlsx", "jsonl"])
def test_a_header_of_too_many_columns_is_refused_quickly(shape: str):
    names = [f"h{n}" for n in range(6_000)]
    if shape == "csv":
        data = ",".join(names).encode() + b"\n"
    elif shape == "jsonl":
        data = b"\n".join(json.dumps(dict.fromkeys(names[n : n + 6], 1)).encode() for n in range(0, 6_000, 6))
    else:
        stream = io.BytesIO()
        with xlsxwriter.Workbook(stream) as book:
            book.add_worksheet().write_row(0, 0, names)
        data = stream.getvalue()
    started = time.process_time()
    for read in (read_header, read_table):
        with pytest.raises(UnreadableExport, match=r"5,000"):
            read(data, "x")
    assert time.process_time() - started < 5


def test_the_widest_header_that_is_read_is_judged_in_time():
    started = time.process_time()
    assert isinstance(recognise([f"Test Score {n}" for n in range(lines.MOST_COLUMNS)], "x.csv", layouts()), Held)
    assert time.process_time() - started < 10


def test_keys_that_are_met_late_are_counted_before_a_table_is_made():
    data = b"".join(b'{"k%d":1,"x":{"y%d":2}}\n' % (n, n) for n in range(3_000))
    with pytest.raises(UnreadableExport, match=r"5,000 keys"):
        read_table(data, "x")


@pytest.mark.parametrize("cell", ["x" * 1_001, "x" * (1 << 20)])
def test_a_header_cell_of_a_megabyte_is_refused(cell: str):
    for data in (f"a,{cell}\n1,2\n".encode(), json.dumps({cell: 1}).encode()):
        with pytest.raises(UnreadableExport, match=r"longer than|do not pair"):
            read_table(data, "x")


def test_a_line_that_no_row_can_be_is_told_by_its_number(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lines, "LONGEST_LINE", 1000)
    monkeypatch.setattr(lines, "CHUNK", 100)
    with pytest.raises(UnreadableExport, match="line 4 is longer"):
        read_table(b"a,b\n1,2\n3,4\n" + b"x" * 2000 + b"\n5,6\n", "x")


@pytest.mark.parametrize("depth", [1_000, 200_000])
@pytest.mark.parametrize("pair", ["[]", ('{"a":', "}")])
def test_deep_json_damages_its_line(depth: int, pair: tuple[str, str]):
    data = f'{{"a":{pair[0] * depth}1{pair[1] * depth}}}\n{{"a":"x"}}\n'.encode()
    table = read_table(data, "x")
    assert table.damaged["rule"].to_list() in (["invalid_json"], ["oversized_cell"])
    assert table.rows.height == 1


@pytest.mark.parametrize("number", ["9" * 5_000, "1e400", "-" + "9" * 4_300, "0." + "0" * 5_000 + "1"])
def test_huge_numbers_of_json_damage_their_line_or_are_text(number: str):
    table = read_table(f'{{"a":{number}}}\n{{"a":"x"}}\n'.encode(), "x")
    assert table.records == 2 and table.rows["c0"].to_list()[-1] == "x"


@pytest.mark.parametrize(
    "score", ["9" * 400, "1e308", "-1e308", "NaN", "inf", "1_000", "٣", "１８６", "186\u200b", "0x7f", "=186"]
)
def test_odd_numbers_are_rejected_by_line_and_rule_or_are_that_number(tmp_path: Path, score: str):
    place = Place(tmp_path)
    (row,) = place.load("map.csv", map_file(map_row("1", 186), map_row("2", score))).rows
    assert (row["parsed"], row["rejected"]) in ((1, 1), (2, 0))
    assert place.current_scores() in ([186], [186, 186])


@pytest.mark.parametrize("day", ["02/30/2025", "00/00/0000", "12/31/9999", "01/01/0001", "13/13/2025", "1/1/1"])
def test_odd_days_are_rejected(tmp_path: Path, day: str):
    place = Place(tmp_path)
    (row,) = place.load("map.csv", map_file(map_row("1", 186), map_row("2", 190, day=day))).rows
    assert (row["parsed"], row["rejected"]) == (1, 1)
    (told,) = place.log.rejected.scan().select("source_line", "column").collect().rows()
    assert told == (3, "TestStartDate")


def test_ids_that_look_alike_are_not_one(tmp_path: Path):
    place = Place(tmp_path)
    alike = ("Ana", "Аna", "A\u0301na", "\u00c1na", "Ana\u200d")
    place.load("map.csv", map_file(*(map_row(each, 186, test=str(n)) for n, each in enumerate(alike))))
    assert place.events()["subject_key"].n_unique() == len(alike)


# What is told of a file that is not what it seems


@pytest.mark.parametrize("end", ["", "x"])
def test_a_student_in_the_header_is_not_told(tmp_path: Path, end: str):
    """The line end after the header was lost, and the first student became names of columns."""
    place = Place(tmp_path)
    students = [map_row(f"Quixote{n}", 186, school="Elmhurst") for n in range(5)]
    text = map_file(*students).replace("TestPercentile\n", f"TestPercentile{end or ','}")
    (row,) = place.load("map.csv", text).rows
    told = f"{row} {place.log.rejected.scan().collect().rows()}"
    assert "Quixote" not in told and "Elmhurst" not in told


def test_a_file_that_was_cut_does_not_lend_its_last_score(tmp_path: Path):
    place = Place(tmp_path)
    text = map_file(map_row("1", 186), map_row("2", 190), map_row("3", 199))
    (row,) = place.load("map.csv", text[: text.rindex("99,3,30")]).rows
    assert (row["parsed"], row["rejected"]) == (2, 1)
    assert place.current_scores() == [186, 190]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zip", "gz", "xlsx"])
def test_a_real_bomb_fits_into_little_memory(tmp_path: Path, kind: str):
    """Two gigabytes in two megabytes, in a process that may have one."""
    zeros = bytes(64 << 20)
    path = tmp_path / f"bomb.{kind}"
    if kind == "gz":
        with gzip.open(path, "wb", 1) as stream:
            for _ in range(32):
                stream.write(zeros)
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for number in range(32):
                archive.writestr(f"xl/worksheets/sheet{number}.xml" if kind == "xlsx" else f"{number}.csv", zeros)
    code = (
        "import resource, sys; from pathlib import Path; from warehouse.landing import discover;"
        "resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30));"
        "print([each.rule for each in discover(Path(sys.argv[1]), 'd1')[1]])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1]), "POLARS_MAX_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "['zip_bomb']", done.stderr[-1000:]


def test_the_reader_of_workbooks_that_panics_has_met_a_broken_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class PanicException(BaseException):
        pass

    def panic(*_: object) -> None:
        raise PanicException("range end index 187 out of range")

    data = workbook()
    monkeypatch.setattr("warehouse.tabular.fastexcel.read_excel", panic)
    with pytest.raises(UnreadableExport, match="broken") as caught:
        read_table(data, "x.xlsx")
    assert "187" not in str(caught.value)
    assert rules(tmp_path, "x.xlsx", data) == []


def test_columns_are_text_until_they_are_read():
    """A cell is never a number, a date or an object because it looks so."""
    table = read_table(b'a,b\n1,{"x":1}\n', "x")
    assert table.rows.schema["c0"] == table.rows.schema["c1"] == pl.String
