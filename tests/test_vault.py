"""The vault hands out keys once and lets one loader in at a time."""

import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing

import polars as pl
import pytest

from warehouse.home import Home, HomeError
from warehouse.vault import Vault, VaultError, derived_keys

SECRET = bytes(range(32))


def ids(*rows: tuple[str, str]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["id_type", "id"], orient="row")


def test_an_id_keeps_the_key_it_was_first_given(tmp_path):
    vault = Vault(tmp_path)
    first = vault.subject_keys("d", ids(("local", "1"), ("local", "2")))
    again = Vault(tmp_path).subject_keys("d", ids(("local", "2"), ("local", "3")))
    assert first.height == again.height == 2
    assert first.filter(id="2")["subject_key"].item() == again.filter(id="2")["subject_key"].item()


def test_keys_are_per_district_and_id_type(tmp_path):
    vault = Vault(tmp_path)
    keys = [
        vault.subject_keys(district, ids((id_type, "1")))["subject_key"].item()
        for district, id_type in (("d", "local"), ("d", "state"), ("e", "local"))
    ]
    assert len(set(keys)) == 3


def test_derived_keys_depend_on_the_id_alone(tmp_path):
    one = Vault(tmp_path / "a", derived_keys(SECRET)).subject_keys("d", ids(("local", "1"), ("local", "2")))
    other = Vault(tmp_path / "b", derived_keys(SECRET)).subject_keys("d", ids(("local", "2")))
    assert one.filter(id="2").equals(other)


def test_the_vault_is_closed_to_others(tmp_path):
    vault = Vault(tmp_path / "vault")
    assert stat.S_IMODE(vault.path.stat().st_mode) == 0o600
    vault.path.chmod(0o644)
    with pytest.raises(VaultError, match="chmod 600"):
        Vault(tmp_path / "vault")


def test_an_id_that_two_rostered_students_share_finds_nobody(tmp_path):
    vault = Vault(tmp_path)
    rows = pl.DataFrame(
        [("local", "1", "a"), ("local", "1", "b"), ("local", "2", "c")],
        schema=["id_type", "id", "subject_key"],
        orient="row",
    )
    vault.add_roster_ids("d", rows)
    assert vault.roster_ids("d")["id"].to_list() == ["2"]


def test_an_attempt_number_never_comes_back(tmp_path):
    assert [Vault(tmp_path).begin_attempt("d", "b") for _ in range(3)] == [1, 2, 3]
    assert Vault(tmp_path).begin_attempt("d", "other") == 1


def test_time_of_a_home_never_steps_back(tmp_path):
    vault = Vault(tmp_path)
    assert [vault.tick(now) for now in (100, 50, 100, 200)] == [100, 101, 102, 200]


def test_a_second_loader_waits_and_then_says_so(tmp_path):
    with (
        Vault(tmp_path).lease("d"),
        pytest.raises(VaultError, match="another run is loading district d"),
        Vault(tmp_path).lease("d", wait_seconds=0.3),
    ):
        pass
    with Vault(tmp_path).lease("d", wait_seconds=0.3):
        pass


def test_a_lease_whose_process_is_gone_is_taken_over(tmp_path):
    vault = Vault(tmp_path)
    code = (
        "import sys, os; from pathlib import Path; from warehouse.vault import Vault;"
        "lease = Vault(Path(sys.argv[1])).lease('d'); lease.__enter__(); os._exit(1)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) as gone:
        pass
    assert holders(vault) == [gone.pid]
    with Vault(tmp_path).lease("d", wait_seconds=0.3):
        assert holders(vault) == [os.getpid()]
    assert holders(vault) == []


def holders(vault: Vault) -> list[int]:
    """Processes that have a district's lease."""
    with closing(sqlite3.connect(vault.path)) as database:
        return [int(holder.split("/")[1]) for (holder,) in database.execute("select holder from lease")]


def test_the_secret_is_made_once_and_closed(tmp_path):
    home = Home(tmp_path).make()
    secret = home.secret()
    assert len(secret) == 32
    assert Home(tmp_path).secret() == secret
    path = home.vault / "secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    with pytest.raises(HomeError, match="chmod 600"):
        home.secret()
