"""A backup is taken while runs go on, fits together, and is restored whole or not at all."""

import json
import shutil
import sqlite3
import stat
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from pipelines import cli
from pipelines.loading import HomeMismatch
from pipelines.verify import verify_home
from tests.homes import SECRET, Place, map_file, map_row, users_file
from warehouse import backup as backing
from warehouse.backup import BackupFailed, NotRestored, back_up, restore
from warehouse.home import Home
from warehouse.vault import Vault

STUDENTS = [str(number) for number in range(101, 113)]


def export_of(score: int) -> str:
    return map_file(*(map_row(each, score) for each in STUDENTS))


@pytest.fixture(scope="module")
def stood(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A home with a roster, a file of tests and one more that is not loaded yet; only looked at."""
    place = Place(tmp_path_factory.mktemp("stood"))
    (place.home.vault / "secret").write_text(SECRET.hex())
    (place.home.vault / "secret").chmod(0o600)
    place.load("2025-09-01/users.csv", users_file(*STUDENTS))
    place.load("2025-10-01/map.csv", export_of(186))
    place.land("2025-10-08/map.csv", export_of(190))
    return place


@pytest.fixture
def place(stood: Place, tmp_path: Path) -> Place:
    """A copy, to be changed."""
    return stood.copy(tmp_path)


@pytest.fixture(scope="module")
def taken(stood: Place, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of it; only looked at."""
    folder = tmp_path_factory.mktemp("taken") / "backup"
    back_up(stood.home, folder)
    return folder


def restored(source: Path, root: Path) -> Place:
    """A place made of a backup, at a later time of its clock."""
    restore(source, Home(root / "home"))
    return Place(root)


def failed(place: Place) -> list[str]:
    """Rules that `tierline verify` finds broken; of projections that were never made it says only that."""
    return [each["rule"] for each in verify_home(place.home, [place.district]) if not each["is_passed"]]


# While a run is under way


@pytest.fixture
def meanwhile(place: Place, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Do something between the copies of the first two tables and of the others."""

    def set_up(doing: Callable[[], object]) -> None:
        copied, told = backing._copied_table, []

        def copy(root: Path, target: Path, name: str) -> object:
            told.append(name)
            if len(told) == 3:
                doing()
            return copied(root, target, name)

        monkeypatch.setattr(backing, "_copied_table", copy)

    return set_up


@pytest.mark.slow
def test_a_load_during_the_backup_is_left_out_and_can_be_done_again(place: Place, tmp_path: Path, meanwhile):
    meanwhile(place.load)
    back_up(place.home, tmp_path / "backup")
    then = restored(tmp_path / "backup", tmp_path / "then")
    assert then.ledger().height == 2
    assert place.ledger().height == 3
    assert then.current_scores() == [186.0] * 12
    assert failed(then) == ["projections"]
    then.land("2025-10-08/map.csv", export_of(190))
    assert [row["attempt"] for row in then.load().rows] == [2]  # the vault knows that it was read once
    then.refresh()
    assert then.current_scores() == [190.0] * 12
    assert failed(then) == []


def test_backups_during_a_load_fit_together_whenever_they_begin(place: Place, tmp_path: Path):
    """One after the other while files are loaded: each has whole batches only, with their archived files."""
    for day in range(10, 16):
        place.land(f"2025-10-{day}/map.csv", export_of(180 + day))
    loading = threading.Thread(target=place.load)
    loading.start()
    folders = []
    while loading.is_alive() or not folders:
        folders.append(tmp_path / f"backup{len(folders)}")
        back_up(place.home, folders[-1])
    loading.join()
    for folder in folders[:3]:
        assert failed(restored(folder, tmp_path / f"{folder.name} restored")) == ["projections"]


def test_a_table_that_is_packed_meanwhile_is_copied_from_its_new_version(place: Place, tmp_path: Path, monkeypatch):
    gone = Path(place.log.sightings.file_uris()[0])
    copied, times = backing._copied, []

    def copy(root: Path, target: Path, names: list[Path]) -> object:
        if any(gone.name == each.name for each in names) and not times:
            times.append(gone)
            place.log.sightings.pack(["natural_key"], (place.district, gone.parent.name.removeprefix("family=")))
            gone.unlink()  # as a vacuum of a later week does
        return copied(root, target, names)

    monkeypatch.setattr(backing, "_copied", copy)
    back_up(place.home, tmp_path / "backup")
    assert times
    assert failed(restored(tmp_path / "backup", tmp_path / "then")) == ["projections"]


def test_a_table_that_was_rebuilt_meanwhile_begins_the_backup_anew(place: Place, tmp_path: Path, meanwhile):
    def rebuild() -> None:
        """As an erasure does: the ledger in a fresh folder, swapped in."""
        ledger = Path(place.log.ledger.uri)
        rows = pl.read_delta(str(ledger))
        shutil.rmtree(ledger)
        place.log.ledger.append(rows.filter(pl.col("layout") != "policy"))

    meanwhile(rebuild)
    back_up(place.home, tmp_path / "backup")
    assert restored(tmp_path / "backup", tmp_path / "then").log.ledger_rows().height == 2


# What is in it


def test_everything_that_cannot_be_made_again_is_in_it_and_closed(stood: Place, taken: Path):
    files = json.loads((taken / "manifest.json").read_text())["files"]
    kinds = {name.split("/")[0] for name in files}
    assert {"log", "vault", "archive", "policy"} <= kinds
    assert not kinds & {"projections", "landing", "warehouse.duckdb"}
    assert {"vault/secret", "vault/vault.sqlite", "policy/d1.toml"} <= files.keys()
    for path in (taken, taken / "home/vault", taken / "home/archive"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for name in ("vault/secret", "vault/vault.sqlite"):
        assert stat.S_IMODE((taken / "home" / name).stat().st_mode) == 0o600
    assert (taken / "home/vault/secret").read_bytes() == (stood.home.vault / "secret").read_bytes()


def test_notes_and_the_register_of_releases_are_in_it(place: Place, tmp_path: Path):
    place.set_policy(place.home.policies.joinpath("d1.toml").read_text() + "mobile_days = 5\n")
    release = place.home.reports / "state" / "r1"
    release.mkdir(parents=True)
    (release / "internal.parquet").write_bytes(b"x")
    (release / "internal.parquet").chmod(0o600)
    unfinished = place.home.reports / "state" / ".r2.1.building"
    unfinished.mkdir()
    (unfinished / "release.json").write_text("{}")
    place.log.notes.append(
        pl.DataFrame(
            {"district_id": ["d1"], "batch_id": ["b"], "attempt": [1], "natural_key": ["k"], "text": ["a note"]}
        )
    )
    back_up(place.home, tmp_path / "backup")
    then = restored(tmp_path / "backup", tmp_path / "then")
    assert then.log.notes.scan().collect()["text"].to_list() == ["a note"]
    kept = then.home.reports / "state" / "r1" / "internal.parquet"
    assert kept.read_bytes() == b"x"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert not (then.home.reports / "state" / unfinished.name).exists()
    assert stat.S_IMODE(then.home.vault.stat().st_mode) == 0o700
    assert stat.S_IMODE((then.home.vault / "secret").stat().st_mode) == 0o600


def test_a_lease_is_not_in_it(place: Place, tmp_path: Path):
    with closing(Vault(place.home.vault)) as vault, vault.lease("d1"):
        back_up(place.home, tmp_path / "backup")
    with closing(sqlite3.connect(tmp_path / "backup/home/vault/vault.sqlite")) as database:
        assert database.execute("select count(*) from lease").fetchone() == (0,)


def test_a_backup_goes_into_an_empty_folder_outside_the_home(place: Place, tmp_path: Path):
    with pytest.raises(BackupFailed, match="is in the home"):
        back_up(place.home, place.home.root / "backup")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "other.txt").write_text("")
    with pytest.raises(BackupFailed, match="not an empty folder"):
        back_up(place.home, tmp_path / "full")


# What is refused


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def turned(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def parquet(data: Path) -> Path:
    return min(data.glob("log/screening/**/*.parquet"))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda backup: (backup / "manifest.json").unlink(), "is no backup, or one that broke off"),
        (lambda backup: cut(backup / "manifest.json") or cut(backup / "manifest.json"), "not what `tierline backup`"),
        (lambda backup: turned(backup / "manifest.json"), "not what `tierline backup`"),
        (lambda backup: cut(parquet(backup / "home")), "1 files of the backup are other than copied"),
        (lambda backup: turned(backup / "home/vault/vault.sqlite"), "1 files of the backup are other than copied"),
        (lambda backup: turned(backup / "home/vault/secret"), "1 files of the backup are other than copied"),
        (lambda backup: parquet(backup / "home").unlink(), "1 files of the backup are missing"),
        (lambda backup: (backup / "home/policy/d2.toml").write_text("x"), "1 files of the backup were added"),
    ],
    ids=["no manifest", "manifest cut", "manifest changed", "cut", "vault", "secret", "missing", "added"],
)
def test_a_backup_that_is_not_whole_is_refused_and_nothing_is_made(
    taken: Path, tmp_path: Path, spoil: Callable[[Path], object], words: str
):
    shutil.copytree(taken, tmp_path / "backup")
    spoil(tmp_path / "backup")
    with pytest.raises(NotRestored, match=words):
        restore(tmp_path / "backup", Home(tmp_path / "home"))
    assert not (tmp_path / "home").exists()


def with_vault_of(older: Path, newer: Path, out: Path) -> Path:
    """A backup whose vault is another's, and whose manifest says so as if it were right."""
    shutil.copytree(newer, out)
    shutil.copy2(older / "home/vault/vault.sqlite", out / "home/vault/vault.sqlite")
    told = json.loads((out / "manifest.json").read_text())
    told.pop("sha256")
    told["files"]["vault/vault.sqlite"] = list(backing._about(out / "home/vault/vault.sqlite"))
    backing._write_manifest(out / "manifest.json", told)
    return out


def test_an_older_vault_under_a_newer_log_is_refused(place: Place, taken: Path, tmp_path: Path):
    place.load()
    back_up(place.home, tmp_path / "newer")
    mixed = with_vault_of(taken, tmp_path / "newer", tmp_path / "mixed")
    with pytest.raises(NotRestored, match="The vault is older than the log: 1 readings"):
        restore(mixed, Home(tmp_path / "home"))
    other_way = with_vault_of(tmp_path / "newer", taken, tmp_path / "newer vault")
    assert restored(other_way, tmp_path / "then").ledger().height == 2  # a vault that knows more does no harm


def test_an_older_vault_that_was_put_there_by_hand_is_refused_by_the_next_load(place: Place, taken: Path):
    place.load()
    shutil.copy2(taken / "home/vault/vault.sqlite", place.home.vault / "vault.sqlite")
    for beside in ("vault.sqlite-wal", "vault.sqlite-shm"):
        (place.home.vault / beside).unlink(missing_ok=True)
    place.land("2025-10-09/map.csv", export_of(191))
    with pytest.raises(HomeMismatch, match="vault/ is older than log/"):
        place.load()


def test_the_secret_of_another_home_is_refused(place: Place, tmp_path: Path):
    (place.home.vault / "secret").write_text("ab" * 32)
    back_up(place.home, tmp_path / "backup")
    with pytest.raises(NotRestored, match="not the secret its log was written with"):
        restore(tmp_path / "backup", Home(tmp_path / "other"))


def test_nothing_is_restored_over_a_home_unless_asked_for_and_then_it_is_kept_aside(
    place: Place, taken: Path, tmp_path: Path
):
    place.load()
    with pytest.raises(NotRestored, match="is not empty, and nothing in it was touched"):
        restore(taken, place.home)
    assert place.ledger().height == 3
    told = restore(taken, place.home, over=True)
    assert place.ledger().height == 2
    aside = Place.__new__(Place)
    aside.home, aside.district = Home(Path(told["moved_to"])), place.district
    assert aside.ledger().height == 3
    assert stat.S_IMODE(aside.home.root.stat().st_mode) == 0o700


def test_a_home_with_a_run_at_work_is_not_moved(place: Place, taken: Path):
    with (
        closing(Vault(place.home.vault)) as vault,
        vault.lease("d1"),
        pytest.raises(NotRestored, match="A run is at work"),
    ):
        restore(taken, place.home, over=True)


def test_a_restore_that_broke_off_is_begun_again(taken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(backing, "_copy", broken)
        with pytest.raises(NotRestored, match="the disk is full"):
            restore(taken, Home(tmp_path / "then" / "home"))
    assert restored(taken, tmp_path / "then").ledger().height == 2


# The commands


def test_the_commands(stood: Place, tmp_path: Path):
    def tierline(*arguments: object) -> tuple[int, str]:
        result = CliRunner().invoke(cli.app, [str(each) for each in arguments])
        return result.exit_code, result.stdout

    code, out = tierline("backup", tmp_path / "backup", "--home", stood.home.root, "--json")
    assert code == 0
    assert json.loads(out)["readings"] == 3  # the policy is one
    assert json.loads(out)["not_archived"] == 0
    code, out = tierline("restore", tmp_path / "backup", "--home", tmp_path / "home", "--json")
    assert code == 0
    assert json.loads(out)["moved_to"] is None
