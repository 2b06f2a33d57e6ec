"""Where a home stands, told from what its files, ledger and warehouse hold; which layout a file has."""

import gzip
import shutil
import zipfile
from pathlib import Path

import polars as pl
import pytest

from pipelines.aliases import layouts_of
from pipelines.status import known_layouts, rows_by_outcome, status_of
from schemas.exports import layouts
from schemas.policy import UnreadablePolicy
from schemas.projections import LEVELS
from tests.conftest import CORRECTED, RENAMED, Lived
from warehouse.home import Home
from warehouse.landing import discover, open_landed
from warehouse.log import Log

HEADERS = Path(__file__).parent / "headers"


def test_every_file_and_row_is_told(lived: Lived):
    (told,) = status_of(lived.home, [lived.district])
    loaded = len([path for path in lived.landed.rglob("*") if path.is_file()]) - 1
    assert (told["files_loaded"], told["files_held"], told["files_refused"], told["files_waiting"]) == (loaded, 1, 0, 0)
    assert sum(told["rows"].values()) == told["data_rows"]
    assert told["parked"] == told["rows"]["parked"] == 1
    assert told["facts"]["corrected"] == lived.changed.height
    assert told["last_recorded_at"] == Log(lived.home).ledger_rows()["recorded_at"].max()
    assert told["stale"] == []


def test_a_held_file_says_which_rule_holds_it_and_what_to_do(lived: Lived):
    (told,) = status_of(lived.home, [lived.district])
    (held,) = told["held_files"]
    assert held["file"] == RENAMED
    assert held["rule"] == "renamed_column"
    assert '"TestRITScore"' in held["message"]
    assert '"TestRITScores"' in held["message"]


def test_flags_count_the_classes_of_every_window_and_measure(lived: Lived):
    (told,) = status_of(lived.home, [lived.district])
    assert {each["benchmark_window"] for each in told["flags"]} == {"fall", "winter", "spring"}
    assert {each["level"] for each in told["flags"]} <= set(LEVELS)
    assert sum(each["classes"] for each in told["flags"]) == lived.published["marts.classroom_flag"]


def test_a_file_that_landed_and_a_policy_that_changed_make_it_stale(tampered: Home, lived: Lived):
    (tampered.landing / lived.district / "new.csv").write_text("a,b\n1,2\n")
    policy = tampered.policies / f"{lived.district}.toml"
    policy.write_text(policy.read_text() + "[cycles]\nshortest_days = 20\n")
    (told,) = status_of(tampered, [lived.district])
    assert told["files_waiting"] == 1
    assert [each.partition(" ")[0] for each in told["stale"]] == ["1", "the"]
    tampered.warehouse.unlink()
    policy.unlink()
    (told,) = status_of(tampered, [lived.district])
    assert told["stale"][1].startswith(f"policy/{lived.district}.toml does not exist")
    assert told["flags"] == []


def test_a_home_without_runs_has_nothing_and_nothing_is_made_by_looking(tmp_path: Path):
    home = Home(tmp_path)
    (home.landing / "d1").mkdir(parents=True)
    (told,) = status_of(home, ["d1"])
    assert told["files_loaded"] == told["data_rows"] == told["parked"] == 0
    assert told["last_recorded_at"] is None
    assert not list(tmp_path.glob("log*")) + list(tmp_path.glob("projections*")) + list(tmp_path.glob("vault*"))


def test_rows_are_summed_over_the_attempts_of_a_file():
    blank = dict.fromkeys(("erased", "duplicate_in_file", "out_of_scope"), 0)
    facts = {f"facts_{name}": 0 for name in ("appended", "corrected", "unchanged", "empty", "rejected")}
    base = {"district_id": "d", "batch_id": "b", "status": "loaded", **blank, **facts}
    ledger = pl.DataFrame(
        [
            {**base, "attempt": 1, "data_rows": 10, "parsed": 6, "rejected": 1, "parked": 3},
            {**base, "attempt": 2, "data_rows": 3, "parsed": 1, "rejected": 0, "parked": 2},
        ]
    )
    (row,) = rows_by_outcome(ledger).to_dicts()
    assert (row["data_rows"], row["parsed"], row["rejected"], row["parked"]) == (10, 7, 1, 2)


def test_every_layout_is_listed_with_what_its_rows_become():
    listed = {each["layout"]: each for each in known_layouts()}
    assert listed.keys() == layouts().keys()
    assert listed["cycle_log_members"]["events"] == "StudentJoined, GoalMet, StudentLeft"


def test_a_file_is_told_by_its_header_with_what_differs(tmp_path: Path):
    header = (HEADERS / "iready_2026.csv").read_text("utf-8-sig").splitlines()[0]
    path = tmp_path / "anything.csv"
    path.write_text(header.replace("Rush Flag", "Shoe Size") + "\n")
    (told,) = layouts_of(Home(tmp_path / "none"), path)
    assert told["layout"] == "iready_2026"
    assert told["title"] == layouts()["iready_2026"].title
    assert told["new"] == ["Shoe Size"]
    assert "Rush Flag" in told["missing"]
    assert told["message"] is None


def test_every_member_of_an_archive_is_told_and_the_unknown_is_held(tmp_path: Path):
    path = tmp_path / "both.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(HEADERS / "cycle_log_cycles.csv", "cycles.csv")
        archive.writestr("other.csv", "Name,Shoe Size\nAna,36\n")
        archive.writestr("empty.csv", "")
    told = {each["file"]: each for each in layouts_of(Home(tmp_path / "none"), path)}
    assert told["both.zip!cycles.csv"]["layout"] == "cycle_log_cycles"
    assert told["both.zip!other.csv"]["rule"] == "unknown_layout"
    assert told["both.zip!empty.csv"]["rule"] == "empty_file"
    assert "Ana" not in str(told)


def test_the_agencys_own_headers_count(tmp_path: Path):
    home = Home(tmp_path / "home").make()
    header = (HEADERS / "cycle_log_cycles.csv").read_text("utf-8-sig").splitlines()[0]
    name = next(iter(layouts()["cycle_log_cycles"].columns))
    expected = layouts()["cycle_log_cycles"].columns[name].headers[0]
    path = tmp_path / "cycles.csv"
    path.write_text(header.replace(expected, "Our Own Name", 1) + "\n")
    assert layouts_of(home, path)[0]["layout"] is None
    aliases = home.policies / "aliases"
    aliases.mkdir()
    (aliases / "cycle_log_cycles.toml").write_text(f'[columns]\n{name} = ["Our Own Name"]\n')
    (told,) = layouts_of(home, path)
    assert told["layout"] == "cycle_log_cycles"
    assert told["renamed"] == [{"expected": expected, "found": "Our Own Name"}]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("cycle_log_cycles", '[columns]\nx = ["a', "is not TOML"),
        ("cycle_log_cycles", '[columns]\nx = "a"', "a list of headers"),
        ("nobody", "", "no layout is called nobody"),
    ],
)
def test_aliases_that_cannot_be_used_are_told_by_file(tmp_path: Path, name: str, text: str, words: str):
    home = Home(tmp_path).make()
    (home.policies / "aliases").mkdir()
    (home.policies / "aliases" / f"{name}.toml").write_text(text)
    with pytest.raises(UnreadablePolicy, match=words) as raised:
        layouts_of(home, HEADERS / "cycle_log_cycles.csv")
    assert f"{name}.toml" in str(raised.value)


def test_a_file_that_landed_packed_is_archived_so_that_it_is_known_again(lived: Lived, tmp_path: Path):
    """Parked rows are read again from the archive: its copy must be the bytes the batch was named after."""
    from pipelines.loading import Loader, read_aliases
    from pipelines.reading import know

    home = Home(tmp_path)
    home.make()
    shutil.copy(lived.home.policies / f"{lived.district}.toml", home.policies / "d1.toml")
    (home.landing / "d1").mkdir()
    text = (lived.landed / CORRECTED).read_bytes()
    (home.landing / "d1" / "spring.csv.gz").write_bytes(gzip.compress(text))
    (row,) = Loader(home).load("d1").rows
    kept = home.archived("d1", str(row["batch_id"]), str(row["file"]))
    assert kept.read_bytes() == text
    (found,), _ = open_landed(kept, kept.name, "d1")
    assert know(found, read_aliases(home)).batch_id == row["batch_id"]
    assert discover(home.landing / "d1", "d1") == ([], [])
