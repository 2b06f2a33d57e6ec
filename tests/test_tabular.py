"""What becomes of the bytes of a landed file."""

import csv
import io
import json
import random
from datetime import date, datetime
from pathlib import Path

import polars as pl
import pytest
import xlsxwriter
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from tests.examples import examples
from warehouse.tabular import RawTable, UnreadableExport, read_header, read_table, sheet_names

SAMPLES = Path(__file__).resolve().parents[2] / "shared" / "samples"
NAME = "export.csv"


def read(text: str | bytes, columns: list[int] | None = None) -> RawTable:
    return read_table(text.encode() if isinstance(text, str) else text, NAME, columns)


def cells(table: RawTable) -> list[tuple[object, ...]]:
    return table.rows.rows()


def damage(table: RawTable) -> list[tuple[int, str]]:
    return table.damaged.select("source_line", "rule").rows()


def sample(name: str) -> bytes:
    path = SAMPLES / name
    if not path.exists():
        pytest.skip("the real samples are not beside this repository")
    return path.read_bytes()


def workbook(*sheets: tuple[str, list[list[object]]], hidden: tuple[str, ...] = ()) -> bytes:
    data = io.BytesIO()
    book = xlsxwriter.Workbook(data, {"default_date_format": "yyyy-mm-dd"})
    for name, rows in sheets:
        sheet = book.add_worksheet(name)
        for line, row in enumerate(rows):
            for position, value in enumerate(row):
                if isinstance(value, str):
                    sheet.write_string(line, position, value)
                elif value is not None:
                    sheet.write(line, position, value)
        if name in hidden:
            sheet.hide()
    book.close()
    return data.getvalue()


# Delimited text


def test_rows_carry_the_line_where_they_start():
    table = read('id,note\n1,a\n\n2,"two\nlines"\n3,b\n')
    assert cells(table) == [(2, "1", "a"), (4, "2", "two\nlines"), (6, "3", "b")]


def test_lines_are_counted_the_same_with_crlf():
    table = read(b'id,note\r\n1,a\r\n\r\n2,"two\r\nlines"\r\n3,b\r\n\r\n')
    assert cells(table) == [(2, "1", "a"), (4, "2", "two\r\nlines"), (6, "3", "b")]
    assert table.records == 3


def test_lines_are_counted_past_a_header_of_several_lines():
    table = read('\n"student\nid",score\n7,12\n')
    assert table.header == ("student\nid", "score")
    assert cells(table) == [(4, "7", "12")]


def test_line_ends_of_classic_mac_are_line_ends():
    assert cells(read(b"a,b\r1,2\r3,4\r")) == [(2, "1", "2"), (3, "3", "4")]


def test_a_doubled_carriage_return_is_one_line_end():
    assert cells(read(b'a,b\r\r\n1,"2"\r\r\n3,4\r\r\n')) == [(2, "1", "2"), (3, "3", "4")]


def test_a_carriage_return_inside_a_cell_does_not_end_the_record():
    assert cells(read('a,b\n1\r2,"3\n4"\n5\r6,7\n')) == [(2, "1\r2", "3\n4"), (4, "5\r6", "7")]


def test_the_last_line_needs_no_newline():
    assert cells(read("a,b\n1,2")) == [(2, "1", "2")]


def test_an_empty_cell_is_null_quoted_or_not():
    assert cells(read('a,b,c\n,"",  \n')) == [(2, None, None, None)]


def test_blanks_around_a_cell_and_a_header_are_dropped():
    table = read("\ufeff a , \ufeffb\u00a0\n 1 ,\u00a0x y \n")
    assert table.header == ("a", "b")
    assert cells(table) == [(2, "1", "x y")]


def test_repeated_and_empty_header_names_keep_their_positions():
    table = read("a,,a\n1,2,3\n")
    assert table.header == ("a", "", "a")
    assert cells(table) == [(2, "1", "2", "3")]


def test_only_the_wanted_positions_are_read():
    table = read("a,b,c\n1,2,3\n", [2, 0])
    assert table.rows.columns == ["source_line", "c0", "c2"]
    assert cells(table) == [(2, "1", "3")]


def test_no_wanted_position_still_counts_the_records():
    table = read("a,b\n1,2\n3\n4,5\n", [])
    assert cells(table) == [(2,), (4,)]
    assert table.records == 3


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_the_delimiter_is_the_most_frequent_in_the_header(delimiter):
    table = read(delimiter.join(["id", '"Last, First; x|y\t"', "score"]) + "\n" + delimiter.join("123") + "\n")
    assert table.delimiter == delimiter
    assert cells(table) == [(2, "1", "2", "3")]


def test_a_first_cell_that_looks_compressed_is_text():
    assert cells(read("a,b\nx^2,1\n")) == [(2, "x^2", "1")]


def test_a_file_of_a_header_alone_has_no_records():
    table = read("a,b\n")
    assert (table.rows.height, table.records) == (0, 0)
    assert table.rows.schema == {"source_line": pl.Int64, "c0": pl.String, "c1": pl.String}


def test_quotes_inside_unquoted_text_are_text():
    table = read('name,score\nAnn "Nan" Lee,4\nBen "B, x",5,\n')
    assert cells(table) == [(2, 'Ann "Nan" Lee', "4")]
    assert damage(table) == [(3, "unbalanced_quote")]


def test_text_after_a_closing_quote_is_damage():
    assert damage(read('a,b\n"ab"c,1\n2,3\n')) == [(2, "unbalanced_quote")]


def test_a_lost_quote_costs_one_record():
    table = read('a,b\n1,"open\n2,x\n3,"y"\n')
    assert cells(table) == [(3, "2", "x"), (4, "3", "y")]
    assert damage(table) == [(2, "unbalanced_quote")]


def test_two_lost_quotes_do_not_swallow_the_rows_between():
    wide = ",,,,,,,,"
    between = "3,4" + wide + "\n"
    for lines in (between, ""):
        table = read(f'a,b{wide}\n1,"open{wide}\n{lines}5,shut"{wide}\n7,8{wide}\n')
        assert [row[1] for row in cells(table)] == (["3", "7"] if lines else ["7"])
        assert [rule for _, rule in damage(table)] == ["unbalanced_quote"] * 2


@pytest.mark.parametrize("position", [0, 4, 11])
def test_a_wide_table_has_records_of_several_lines_in_any_column(position):
    row = ["x"] * 12
    row[position] = "two\nor, three\nlines"
    text = io.StringIO()
    csv.writer(text).writerows([[f"column {n}" for n in range(12)], row, ["y"] * 12])
    assert [line[0] for line in cells(read(text.getvalue()))] == [2, 5]


@pytest.mark.parametrize(("lines", "is_read"), [(50, True), (51, False)])
def test_a_quoted_record_may_reach_fifty_lines_further(lines, is_read):
    table = read('a,b\n1,"' + "\n" * lines + '"\n2,3\n')
    assert ((2, "1", None) in cells(table)) is is_read
    assert cells(table)[-1] == (lines + 3, "2", "3")


def test_too_many_fields_are_damage_unless_the_surplus_is_empty():
    table = read('a,b\n1,2,3\n4,5,,\n6,7,"", \n8,9\n')
    assert cells(table) == [(3, "4", "5"), (4, "6", "7"), (5, "8", "9")]
    assert damage(table) == [(2, "too_many_fields")]


def test_a_very_long_tail_of_empty_fields_is_accepted():
    assert cells(read("a,b\n1,2" + "," * 5000 + "\n3,4\n")) == [(2, "1", "2"), (3, "3", "4")]


def test_too_few_fields_are_damage_except_in_the_last_record():
    table = read("a,b,c\n1,2\n3,4,5\n6,7\n\n  \n")
    assert cells(table) == [(3, "3", "4", "5"), (4, "6", "7", None)]
    assert damage(table) == [(2, "too_few_fields")]


def test_most_records_may_leave_out_the_columns_without_a_name():
    table = read("a,b,\n1,2\n3,4\n5,6,\n7\n8,9\n")
    assert cells(table)[:3] == [(2, "1", "2", None), (3, "3", "4", None), (4, "5", "6", None)]
    assert damage(table) == [(5, "too_few_fields")]


def test_records_may_not_leave_out_a_named_column_even_if_all_do():
    assert damage(read("a,b,c\n1,2\n3,4\n5,6\n")) == [(2, "too_few_fields"), (3, "too_few_fields")]


def test_few_records_may_not_leave_out_the_columns_without_a_name():
    assert damage(read("a,b,\n1,2\n3,4,\n5,6,\n7,8,\n")) == [(2, "too_few_fields")]


def test_a_repeated_header_marks_files_glued_together():
    table = read("\ufeffid,score\n1,2\n\ufeffid,score\n3,4\nid,score\n5,6\n")
    assert cells(table) == [(2, "1", "2"), (4, "3", "4"), (6, "5", "6")]
    assert damage(table) == [(3, "repeated_header"), (5, "repeated_header")]


@pytest.mark.parametrize("control", ["\0", "\x01", "\x0b", "\x1a", "\x1f"])
def test_a_control_character_damages_its_record(control):
    table = read(f'a,b\n1,{control}2\n3,"x\ny{control}"\n4,5\n')
    assert cells(table) == [(5, "4", "5")]
    assert damage(table) == [(2, "control_character"), (3, "control_character")]


def test_a_cell_of_ten_thousand_characters_is_the_longest():
    table = read(f'a,b\n1,{"é" * 10_000}\n2,{"é" * 10_001}\n3,"{"x" * 9_000}\n{"x" * 9_000}"\n4,5\n')
    assert [row[0] for row in cells(table)] == [2, 6]
    assert table.damaged.rows() == [(3, "b", "oversized_cell"), (4, "b", "oversized_cell")]


def test_a_cell_longer_than_the_csv_module_reads_is_damage():
    assert damage(read(f"a,b\n1,{'x' * 200_000}\n2,3\n")) == [(2, "oversized_cell")]


def test_many_short_cells_are_not_a_long_one():
    row = ",".join(["123456789"] * 2000)
    assert read(f"{row}\n{row[:-1]}0\n").rows.height == 1


# Encodings


def test_utf_8_with_and_without_a_mark_reads_the_same():
    text = "nombre,x\nJosé,1\n"
    assert cells(read(text)) == cells(read(text.encode("utf-8-sig"))) == [(2, "José", "1")]
    assert read(text).encoding == "utf-8"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf_16_with_a_mark_is_read(encoding):
    data = ("\ufeff" if encoding == "utf-16-be" else "").encode(encoding) + "a\tb\né\t1\n".encode(encoding)
    table = read(data)
    assert (table.encoding, table.delimiter, cells(table)) == ("utf-16", "\t", [(2, "é", "1")])


def test_broken_utf_16_damages_only_its_record():
    table = read("a,b\n1,2\n3,X\n5,6\n".encode("utf-16").replace(b"X\0", b"\0\xd8"))
    assert cells(table) == [(2, "1", "2"), (4, "5", "6")]
    assert damage(table) == [(3, "invalid_encoding")]


def test_windows_1252_is_recognised_where_no_line_is_utf_8():
    table = read("id,nom\n1,René\n2,“Zoë”\n".encode("cp1252"))
    assert table.encoding == "windows-1252"
    assert cells(table) == [(2, "1", "René"), (3, "2", "“Zoë”")]


def test_a_windows_1252_header_is_recognised():
    table = read("id,prénom\n1,2\n".encode("cp1252"))
    assert (table.header, table.encoding) == (("id", "prénom"), "windows-1252")
    assert read_header("id,prénom\n1,2\n".encode("cp1252"), NAME) == table.header


def test_a_byte_that_windows_1252_lacks_damages_its_record():
    table = read(b"a,b\n1,\xe9\n2,\x81\xe9\n3,4\n")
    assert cells(table) == [(2, "1", "é"), (4, "3", "4")]
    assert damage(table) == [(3, "invalid_encoding")]


def test_a_broken_line_of_a_utf_8_file_is_damage():
    table = read("a,b\n1,é\n".encode() + b"2,\xe9\n" + b'3,"x\n\xe9"\n' + b"4,5\n")
    assert table.encoding == "utf-8"
    assert cells(table) == [(2, "1", "é"), (6, "4", "5")]
    assert damage(table) == [(3, "invalid_encoding"), (4, "invalid_encoding")]


# Files that are no tables


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n \r\n",
        b"\xef\xbb\xbf",
        b'"a,b\n1,2\n',
        b'"a"b,c\n1,2\n',
        b"GIF89a\x01\0\n",
        b"%PDF-1.4\n",
        b"<!DOCTYPE html>\n<p>Sign in</p>",
        b"PK\x03\x04broken",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1broken",
        b'{"a":\n',
        "é,b\n".encode("cp1252") + "1,é\n".encode(),
    ],
)
def test_a_file_that_is_no_table_is_refused_by_name(data):
    with pytest.raises(UnreadableExport, match=r"^export\.csv: ") as caught:
        read(data)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_column_outside_the_header_is_a_mistake_of_the_caller():
    for data in (b"a,b\n1,2\n", b'{"a":1}\n', workbook(("One", [["a"], ["1"]]))):
        with pytest.raises(ValueError, match="from 0 to"):
            read_table(data, NAME, [2])


# Workbooks


def test_a_workbook_gives_numbers_and_dates_as_text():
    rows = [["id", "n", "on", "at"], ["007", 12.0, date(2026, 9, 1), 51.42857], [" x ", 1234567890123456]]
    table = read_table(workbook(("One", rows)), "list.xlsx")
    assert table.header == ("id", "n", "on", "at")
    assert cells(table) == [
        (2, "007", "12", "2026-09-01", "51.42857"),
        (3, "x", "1234567890123456", None, None),
    ]


def test_a_workbook_keeps_a_time_that_is_not_midnight():
    rows = [["at"], [datetime(2026, 9, 1, 13, 5)]]  # noqa: DTZ001 - workbooks know no zone
    assert cells(read_table(workbook(("One", rows)), "list.xlsx")) == [(2, "2026-09-01 13:05:00")]


def test_rows_of_a_workbook_carry_the_number_that_the_spreadsheet_shows():
    rows: list[list[object]] = [[], [], ["a", "a"], [], ["1", "2"], ["a", "a"], ["3"]]
    table = read_table(workbook(("One", rows)), "list.xlsx")
    assert cells(table) == [(5, "1", "2"), (7, "3", None)]
    assert damage(table) == [(6, "repeated_header")]
    assert table.records == 3


def test_the_first_sheet_is_read_unless_the_name_chooses_another():
    data = workbook(("Fall", [["a"], ["1"]]), ("Odd!Name", [["b"], ["2"]]))
    assert read_table(data, "list.xlsx").header == ("a",)
    assert read_table(data, "list.xlsx!Odd!Name").header == ("b",)


def test_only_visible_sheets_with_cells_count():
    data = workbook(("A", [["a"]]), ("B", []), ("C", [["c"]]), ("D", [["d"]]), hidden=("C",))
    assert sheet_names(data) == ["A", "D"]


def test_a_sheet_with_a_stray_cell_in_the_far_corner_is_refused():
    data = io.BytesIO()
    book = xlsxwriter.Workbook(data)
    sheet = book.add_worksheet()
    sheet.write(0, 0, "a")
    sheet.write(1_048_575, 16_383, "x")
    book.close()
    with pytest.raises(UnreadableExport, match="XFD1048576"):
        read_table(data.getvalue(), "list.xlsx")


# JSON Lines


def test_objects_are_flattened_one_level_with_values_as_text():
    table = read('{"b":12.0,"a":{"x":2.50,"ok":true}}\n\n{"b":null,"c":"007 ","a":{"x":1e3}}\n')
    assert table.header == ("a.ok", "a.x", "b", "c")
    assert cells(table) == [(1, "true", "2.5", "12", None), (3, None, "1000", None, "007")]


def test_what_is_nested_deeper_is_compact_json():
    table = read('{"a": {"x": [1, {"k": "é"}]}, "b": [ ]}\n')
    assert cells(table) == [(1, '[1,{"k":"é"}]', "[]")]


def test_a_line_that_is_no_object_is_damage():
    table = read('{"a":1}\n{"a":\n3\n[{"a":2}]\n{"a":NaN}\n{"a":"\\ud800"}\n{"a":5}\n')
    assert cells(table) == [(1, "1"), (7, "5")]
    assert damage(table) == [(line, "invalid_json") for line in (2, 3, 4, 5, 6)]


def test_a_line_of_json_that_is_not_utf_8_is_damage():
    assert damage(read(b'{"a":"\xe9"}\n{"a":"x"}\n')) == [(1, "invalid_encoding")]


def test_a_key_met_late_follows_the_header_already_read():
    data = b'{"b":1}\n' * 1000 + b'{"a":2,"b":3}\n'
    assert read_header(data, NAME) == ("b",)
    assert read_table(data, NAME).header == ("b", "a")


def test_a_long_value_of_json_is_damage():
    table = read(json.dumps({"a": "x" * 10_001, "b": 1}) + "\n" + '{"a":"y","b":2}\n')
    assert table.damaged.rows() == [(1, "a", "oversized_cell")]
    assert table.records == 2


scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(-1e9, 1e9)
values = (
    scalars | st.text(max_size=5) | st.lists(scalars, max_size=2) | st.dictionaries(st.text("xy"), scalars, max_size=2)
)
objects = st.dictionaries(st.sampled_from("abc") | st.text(max_size=3), values, min_size=1, max_size=4)


@given(st.lists(objects, min_size=1, max_size=5))
@examples(60)
def test_a_line_reads_the_same_whatever_its_neighbours(records):
    lines = [json.dumps(record) for record in records]
    try:
        together = read("\n".join(lines))
    except UnreadableExport:
        return
    apart = read("\n".join([*lines, '{"broken":']))
    assert_frame_equal(together.rows, apart.rows)
    assert together.header == apart.header
    assert together.damaged.height == apart.damaged.height - 1


# Properties


printable = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")) | st.sampled_from(' ",;|\n\r\t'), max_size=8
)


@given(
    st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(printable, min_size=width, max_size=width), max_size=8)),
    st.sampled_from(",\t;|"),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.booleans(),
)
@examples(300)
def test_whatever_the_csv_module_writes_reads_back(rows, delimiter, line_end, quoting, has_mark):
    width = len(rows[0]) if rows else 2
    if any("\r" in cell for row in rows for cell in row):
        quoting = csv.QUOTE_ALL  # before Python 3.13 the csv module leaves a carriage return unquoted
    header = [f"column {position}" for position in range(width)]
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=line_end, quoting=quoting)
    writer.writerow(header)
    expected = []
    for row in rows:
        line = text.getvalue().count("\n") + 1
        if row == header:
            continue
        writer.writerow(row)
        expected.append((line, *(cell.strip() or None for cell in row)))
    # A header of one column names no delimiter, so that a comma is meant.
    if width == 1 and delimiter != ",":
        return
    table = read((codecs_mark if has_mark else b"") + text.getvalue().encode())
    assert table.damaged.is_empty()
    assert cells(table) == expected


codecs_mark = b"\xef\xbb\xbf"


@given(st.randoms(use_true_random=False), st.binary(max_size=4), st.sampled_from(["csv", "quoted", "json"]))
@examples(300)
def test_damage_never_loses_a_record_and_never_raises_otherwise(chance: random.Random, noise, kind):
    lines = [["id", "name, title", "score"], *[[str(i), f'Ann "{i}"\nLee', "é"] for i in range(6)]]
    text = io.StringIO()
    if kind == "json":
        text.write("".join(json.dumps({"id": row[0], "name": row[1:]}) + "\n" for row in lines))
    else:
        csv.writer(text, quoting=csv.QUOTE_ALL if kind == "quoted" else csv.QUOTE_MINIMAL).writerows(lines)
    data = bytearray(text.getvalue().encode())
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data))
        data[at : at + chance.randint(0, 3)] = noise or chance.choice([b'"', b"\n", b",", b"\xff", b"\0", b"{"])
    try:
        table = read(bytes(data))
    except UnreadableExport:
        return
    assert table.records == table.rows.height + table.damaged["source_line"].n_unique()
    assert table.damaged["source_line"].is_unique().all()
    assert not set(table.rows["source_line"]) & set(table.damaged["source_line"])
    assert read(bytes(data), [0]).records == table.records


@given(st.binary(max_size=60))
@examples(300)
def test_any_bytes_are_a_table_or_an_unreadable_export(data):
    try:
        table = read(data)
    except UnreadableExport:
        return
    assert table.records == table.rows.height + table.damaged.height
    assert read_header(data, NAME) == table.header


@pytest.mark.parametrize("seam", range(-3, 4))
def test_a_record_across_two_chunks_is_read_whole(seam, monkeypatch):
    monkeypatch.setattr("warehouse.lines.CHUNK", 12 + seam)
    table = read('a,b\n1,"x,\ny"\r\n"2",é\n3,"z"\n' * 3)
    assert cells(table)[:3] == [(2, "1", "x,\ny"), (4, "2", "é"), (5, "3", "z")]
    assert table.rows.height == 9
    assert damage(table) == [(6, "repeated_header"), (11, "repeated_header")]


# Real exports


def test_the_last_nwea_record_is_one_field_short_and_kept():
    data = sample("nwea_map_growth/MAP_Growth_sample_anonymized_file.csv")
    table = read(data)
    assert len(table.header) == 143
    assert len(data.rstrip().splitlines()[-1].split(b'"')) > 1
    assert (table.rows.height, table.damaged.height) == (7, 0)
    assert table.rows["c142"].to_list()[-1] is None


@pytest.mark.parametrize("subject", ["math", "ela"])
def test_iready_has_a_mark_and_crlf(subject):
    data = sample(f"iready/i-Ready_sample_anonymized_file_{subject}.csv")
    assert data.startswith(codecs_mark) and b"\r\n" in data
    table = read(data)
    assert table.header[0] == "Last Name"
    assert not any("\r" in name for name in table.header)
    assert table.rows["source_line"].to_list() == [2, 3, 4, 5, 6]
    last = table.rows[f"c{len(table.header) - 1}"].drop_nulls()
    assert not last.str.contains("\r").any()


@pytest.mark.parametrize(
    ("name", "width", "name_repeated", "times"),
    [
        ("sample_anonymized_file_cbmm_auto.csv", 316, "Growth Score from Fall to Winter", 3),
        ("FastBridge_Math_earlyMath_sample_anonymized_file.csv", 1711, None, 18),
    ],
)
def test_fastbridge_repeats_names_in_its_header(name, width, name_repeated, times):
    table = read(sample(f"fastbridge/{name}"))
    assert len(table.header) == width
    counts = {name: table.header.count(name) for name in table.header}
    assert (counts[name_repeated] if name_repeated else max(counts.values())) == times
    assert table.header[15] == ""
    assert table.damaged.is_empty()


def test_every_delimited_sample_reads_as_the_csv_module_reads_it():
    paths = [path for path in SAMPLES.glob("*/**/*") if path.suffix in (".csv", ".txt")]
    if not paths:
        pytest.skip("the real samples are not beside this repository")
    for path in paths:
        data = path.read_bytes()
        table = read_table(data, path.name)
        text = data.decode("utf-8-sig")
        _, *rows = csv.reader(io.StringIO(text, newline=""), delimiter=table.delimiter)
        width = len(table.header)
        expected = [[cell.strip() or None for cell in [*row, *[""] * width][:width]] for row in rows if row]
        assert [list(row[1:]) for row in cells(table)] == expected, path.name
        assert table.damaged.is_empty(), path.name
        assert read_header(data, path.name) == table.header
