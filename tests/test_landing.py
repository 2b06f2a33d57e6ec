"""What is found in a landing folder, and what is refused."""

import gzip
import hashlib
import io
import os
import zipfile
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import xlsxwriter

from warehouse import packed
from warehouse.landing import Landed, UnreadableExport, discover, read_header, read_table

SAMPLES = Path(__file__).resolve().parents[2] / "shared" / "samples"


def put(folder: Path, name: str, data: bytes = b"a,b\n1,2\n") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return data.getvalue()


def workbook(**sheets: str) -> bytes:
    data = io.BytesIO()
    book = xlsxwriter.Workbook(data)
    for name, cell in sheets.items():
        book.add_worksheet(name).write_string(0, 0, cell)
    book.close()
    return data.getvalue()


def names(folder: Path) -> list[str]:
    return [one.name for one in discover(folder, "d1")[0]]


def rules(folder: Path) -> list[tuple[str, str]]:
    landed, refused = discover(folder, "d1")
    assert all(one.message.startswith(f"{one.name}: ") for one in refused)
    return [(one.name, one.rule) for one in refused] + [(one.name, "landed") for one in landed]


def only(folder: Path) -> Landed:
    [one], [] = discover(folder, "d1")
    return one


def test_files_are_found_at_any_depth_in_the_order_of_their_names(tmp_path):
    for name in ("b.csv", "2026-09-01/deep/a.csv", "a.csv"):
        put(tmp_path, name)
    assert names(tmp_path) == ["2026-09-01/deep/a.csv", "a.csv", "b.csv"]


def test_a_file_says_where_when_and_what_it_is(tmp_path):
    path = put(tmp_path, "nwea/2026-09-01/x.csv")
    os.utime(path, (1_000_000, 1_000_000))
    one = only(tmp_path)
    assert one == Landed(
        district_id="d1",
        path=path,
        member=None,
        name="nwea/2026-09-01/x.csv",
        bundle="nwea/2026-09-01",
        data_sha256=hashlib.sha256(b"a,b\n1,2\n").hexdigest(),
        bytes=8,
        landed_on=date(2026, 9, 1),
        modified_at=datetime.fromtimestamp(1_000_000, UTC),
    )
    assert one.read() == b"a,b\n1,2\n"


def test_a_folder_that_is_no_date_gives_no_day(tmp_path):
    put(tmp_path, "2026-13-01/x.csv")
    assert only(tmp_path).landed_on is None


@pytest.mark.parametrize("name", [".hidden.csv", "~$book.xlsx", "x.csv.part", "x.TMP", "x.crdownload", ".git/x.csv"])
def test_hidden_and_unfinished_files_are_passed_over(tmp_path, name):
    put(tmp_path, name)
    put(tmp_path, "roster.zip", zipped({name: b"a\n", "ok.csv": b"a\n", "__MACOSX/._ok.csv": b"x"}))
    assert rules(tmp_path) == [("roster.zip!ok.csv", "landed")]


def test_a_missing_or_empty_folder_holds_nothing(tmp_path):
    (tmp_path / "empty").mkdir()
    assert discover(tmp_path, "d1") == discover(tmp_path / "none", "d1") == ([], [])


def test_members_of_an_archive_are_files_of_their_own(tmp_path):
    put(tmp_path, "2026-09-01/r.zip", zipped({"users.csv": b"u\n", "more/orgs.csv": b"o\n"}))
    landed, refused = discover(tmp_path, "d1")
    assert refused == []
    assert [(one.member, one.bundle, one.read()) for one in landed] == [
        ("more/orgs.csv", "2026-09-01/r.zip!more", b"o\n"),
        ("users.csv", "2026-09-01/r.zip", b"u\n"),
    ]
    assert {one.landed_on for one in landed} == {date(2026, 9, 1)}


def test_an_archive_is_known_by_content_too(tmp_path):
    put(tmp_path, "export", zipped({"x.csv": b"a\n"}))
    assert names(tmp_path) == ["export!x.csv"]


def test_a_gz_file_is_opened_and_named_without_its_suffix(tmp_path):
    put(tmp_path, "x.csv.GZ", gzip.compress(b"a,b\n"))
    one = only(tmp_path)
    assert (one.name, one.member, one.read()) == ("x.csv", None, b"a,b\n")
    assert one.data_sha256 == hashlib.sha256(b"a,b\n").hexdigest()


def test_a_workbook_with_one_sheet_is_one_file(tmp_path):
    put(tmp_path, "x.xlsx", workbook(Fall="a"))
    assert names(tmp_path) == ["x.xlsx"]


@pytest.mark.parametrize("is_zipped", [False, True])
def test_each_sheet_of_a_workbook_is_a_file(tmp_path, is_zipped):
    book = workbook(Fall="f", Spring="s")
    put(tmp_path, "x.zip" if is_zipped else "x.xlsx", zipped({"x.xlsx": book}) if is_zipped else book)
    landed, _ = discover(tmp_path, "d1")
    assert [one.name.rpartition("!")[2] for one in landed] == ["Fall", "Spring"]
    assert [read_header(one.read(), one.name) for one in landed] == [("f",), ("s",)]
    assert len({one.data_sha256 for one in landed}) == 2


def test_a_file_that_changes_after_it_was_found_is_not_read(tmp_path):
    path = put(tmp_path, "x.csv")
    one = only(tmp_path)
    path.write_bytes(b"a,b\n1,3\n")
    with pytest.raises(UnreadableExport, match="changed"):
        one.read()


@pytest.mark.parametrize("name", ["x.csv", "x.zip", "x.csv.gz"])
def test_a_file_that_is_gone_is_not_read(tmp_path, name):
    data = {"x.csv": b"a\n", "x.zip": zipped({"x.csv": b"a\n"}), "x.csv.gz": gzip.compress(b"a\n")}[name]
    path = put(tmp_path, name, data)
    one = only(tmp_path)
    path.unlink()
    with pytest.raises(UnreadableExport, match="gone"):
        one.read()


def test_empty_files_are_refused_and_their_neighbours_kept(tmp_path):
    put(tmp_path, "e.csv", b"")
    put(tmp_path, "e.csv.gz", gzip.compress(b""))
    put(tmp_path, "r.zip", zipped({"e.csv": b"", "x.csv": b"a\n"}))
    assert rules(tmp_path) == [
        ("e.csv", "empty_file"),
        ("e.csv.gz", "empty_file"),
        ("r.zip!e.csv", "empty_file"),
        ("r.zip!x.csv", "landed"),
    ]


@pytest.mark.parametrize(
    "member", ["../x.csv", "a/../../x.csv", "/etc/x.csv", "C:/x.csv", "..\\x.csv", "\\\\host\\x.csv"]
)
def test_an_archive_with_a_name_outside_it_is_refused_whole(tmp_path, member):
    put(tmp_path, "r.zip", zipped({"ok.csv": b"a\n", member: b"a\n"}))
    assert rules(tmp_path) == [("r.zip", "unsafe_path")]


def test_an_archive_with_a_password_is_refused(tmp_path):
    data = bytearray(zipped({"x.csv": b"a\n"}))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    put(tmp_path, "r.zip", bytes(data))
    assert rules(tmp_path) == [("r.zip", "encrypted_archive")]


@pytest.mark.parametrize("inner", ["in.zip", "in.csv.gz", "in.7z", "disguised.csv"])
def test_an_archive_inside_an_archive_is_refused_alone(tmp_path, inner):
    put(tmp_path, "r.zip", zipped({inner: zipped({"x.csv": b"a\n"}), "ok.csv": b"a\n"}))
    assert rules(tmp_path) == [(f"r.zip!{inner}", "nested_archive"), ("r.zip!ok.csv", "landed")]


@pytest.mark.parametrize("name", ["x.7z", "x.rar", "x.tar", "x.tgz"])
def test_other_archives_are_refused(tmp_path, name):
    put(tmp_path, name)
    assert rules(tmp_path) == [(name, "unsupported_archive")]


def test_a_broken_archive_is_refused(tmp_path):
    whole = zipped({"x.csv": os.urandom(500), "y.csv": b"a\n"}, zipfile.ZIP_STORED)
    put(tmp_path, "cut.zip", whole[:300])
    put(tmp_path, "wrong.zip", whole[:100] + b"XXXX" + whole[104:])
    put(tmp_path, "cut.csv.gz", gzip.compress(os.urandom(500))[:300])
    put(tmp_path, "text.gz", b"a,b\n")
    assert [rule for _, rule in rules(tmp_path)] == ["broken_archive"] * 4


def test_two_members_of_one_name_are_refused(tmp_path):
    data = zipped({"x.csv": b"a\n", "y.csv": b"b\n"}).replace(b"y.csv", b"x.csv")
    put(tmp_path, "r.zip", data)
    assert rules(tmp_path) == [("r.zip", "duplicate_name")]


@pytest.mark.parametrize("limit", ["MOST_MEMBERS", "MOST_BYTES", "SUSPECT_BYTES"])
def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch, limit):
    put(tmp_path, "r.zip", zipped({f"{n}.csv": b"0" * 100_000 for n in range(3)}))
    assert len(names(tmp_path)) == 3
    monkeypatch.setattr(packed, limit, {"MOST_MEMBERS": 2}.get(limit, 299_999))
    assert rules(tmp_path) == [("r.zip", "zip_bomb")]


def test_a_gz_file_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    put(tmp_path, "x.csv.gz", gzip.compress(b"0" * 1_000_000))
    assert names(tmp_path) == ["x.csv"]
    monkeypatch.setattr(packed, "SUSPECT_BYTES", 1000)
    assert rules(tmp_path) == [("x.csv.gz", "zip_bomb")]


def test_links_are_not_followed(tmp_path):
    secret = put(tmp_path, "elsewhere/secret.csv")
    (tmp_path / "d1").mkdir()
    (tmp_path / "d1" / "x.csv").symlink_to(secret)
    (tmp_path / "d1" / "folder").symlink_to(secret.parent)
    assert rules(tmp_path / "d1") == [("x.csv", "not_a_file")]


def test_real_oneroster_archives_are_bundles_of_tables(tmp_path):
    archives = sorted((SAMPLES / "oneroster_csv" / "moodle_enrol_oneroster").glob("*.zip"))
    if not archives:
        pytest.skip("the real samples are not beside this repository")
    for archive in archives:
        put(tmp_path, archive.name, archive.read_bytes())
    landed, refused = discover(tmp_path, "d1")
    assert refused == []
    assert {one.bundle for one in landed} == {archive.name for archive in archives}
    for one in landed:
        table = read_table(one.read(), one.name)
        assert table.records > 0
        assert table.damaged.is_empty(), one.name
        if one.name.endswith("manifest.csv"):
            assert table.header == ("propertyName", "value")


def test_real_gz_samples_are_tables(tmp_path):
    path = SAMPLES / "oea_iready" / "diagnostic_results_math.csv.gz"
    if not path.exists():
        pytest.skip("the real samples are not beside this repository")
    put(tmp_path, path.name, path.read_bytes())
    one = only(tmp_path)
    assert one.name == "diagnostic_results_math.csv"
    assert len(read_table(one.read(), one.name).header) == 35
