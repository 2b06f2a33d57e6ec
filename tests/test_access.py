"""Who may open what: names for their owner alone, results without them, and services for this machine alone."""

import ctypes
import json
import os
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from pipelines import cli
from pipelines.commands import giving
from pipelines.commands.options import BLOCKED, fail
from pipelines.history import dagster_home
from pipelines.report.names import NamesRefused
from pipelines.report.site import build_report
from pipelines.terminal import console_of, show_fields, show_table
from schemas.policy import UnreadablePolicy
from tests.conftest import Small
from warehouse.home import Home, HomeError
from warehouse.log import Log
from warehouse.spreadsheet import neutralised
from warehouse.vault import Vault, VaultError

ROOT = Path(__file__).resolve().parents[1]
CLOSED = ("landing", "archive", "vault", "notes")
"""Folders of a home that hold names."""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home").make()
    made.secret()
    Vault(made.vault).close()
    return made


# Modes and owners


def test_a_new_home_is_closed_where_names_are_and_never_open_to_all(home: Home):
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in home.root.iterdir()}
    assert {name: modes[name] for name in CLOSED} == dict.fromkeys(CLOSED, 0o700)
    assert all(modes[name] & 0o007 == 0 for name in ("log", "projections"))
    assert stat.S_IMODE(home.root.stat().st_mode) & 0o007 == 0
    for file in ("secret", "vault.sqlite"):
        assert stat.S_IMODE((home.vault / file).stat().st_mode) == 0o600


@pytest.mark.parametrize("folder", ["vault", "notes", "archive"])
@pytest.mark.parametrize("mode", [0o750, 0o701, 0o770])
def test_a_folder_of_names_that_is_open_is_refused_with_what_to_run(home: Home, folder: str, mode: int):
    path = home.root / folder
    path.chmod(mode)
    with pytest.raises(HomeError) as refused:
        home.make()
    command = str(refused.value).partition("Run: ")[2]
    subprocess.run(["sh", "-c", command], check=True)
    home.make()
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_an_open_secret_or_vault_is_refused(home: Home, mode: int):
    (home.vault / "secret").chmod(mode)
    with pytest.raises(HomeError, match="chmod 600"):
        home.secret()
    (home.vault / "vault.sqlite").chmod(mode)
    with pytest.raises(VaultError, match="chmod 600"):
        Vault(home.vault)


def test_the_vault_folder_is_looked_at_too(home: Home):
    home.vault.chmod(0o755)
    for opened in (home.secret, lambda: Vault(home.vault)):
        with pytest.raises((HomeError, VaultError), match="chmod 700"):
            opened()


def test_a_vault_may_lie_elsewhere_if_it_is_closed_there(home: Home, tmp_path: Path):
    elsewhere = tmp_path / "encrypted"
    home.vault.rename(elsewhere)
    home.vault.symlink_to(elsewhere)
    home.make().secret()
    elsewhere.chmod(0o755)
    with pytest.raises(HomeError, match="chmod 700"):
        home.make()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
@pytest.mark.parametrize("name", ["vault", "vault/secret", "notes"])
def test_what_belongs_to_another_user_is_refused(home: Home, name: str):
    os.chown(home.root / name, 65534, -1)
    with pytest.raises(HomeError, match="Run as its owner"):
        home.make().secret()


@pytest.mark.slow
def test_a_report_with_names_goes_to_no_open_folder(spoilt: Home, small: Small):
    Vault(spoilt.vault).close()
    folder = build_report(spoilt, small.district, with_names=True).folder
    build_report(spoilt, small.district, with_names=True)
    folder.chmod(0o755)
    with pytest.raises(HomeError, match="chmod 700"):
        build_report(spoilt, small.district, with_names=True)
    spoilt.vault.chmod(0o711)
    with pytest.raises(NamesRefused, match="chmod 700"):
        build_report(spoilt, small.district, with_names=True, out=folder.parent / "other")


# Results without names

READING = """
import json, sys
from typer.testing import CliRunner
from pipelines import cli
from pipelines.commands import giving
from pipelines.commands.options import BLOCKED, fail
told = {}
for command in json.loads(sys.argv[1]):
    result = CliRunner().invoke(cli.app, command)
    told[command[0]] = [result.exit_code, result.output[-500:], repr(result.exception)]
print(json.dumps(told))
"""
CAPABILITIES = (0, 1, 2, 3)
"""By which root opens whatever it likes."""


def powerless() -> None:
    """Root gives up what others do not have; exec gives back no more than this set."""
    library = ctypes.CDLL(None, use_errno=True)
    for each in CAPABILITIES:
        library.prctl(24, each, 0, 0, 0)


@pytest.mark.slow
def test_results_are_read_without_landing_archive_vault_and_notes(spoilt: Home, small: Small, tmp_path: Path):
    student = Log(spoilt).families["screening"].scan().select("subject_key").collect().item(0, 0)
    where = ["--home", str(spoilt.root)]
    commands = [
        ["status", "--json", *where],
        ["export", "--out", str(tmp_path / "out"), "--table", "marts.tier_summary", *where],
        ["report", "--out", str(tmp_path / "site"), *where],
        ["explain", "student", student, *where],
        ["verify", *where],
    ]
    for each in CLOSED:
        (spoilt.root / each).chmod(0)
    done = subprocess.run(
        [sys.executable, "-c", READING, json.dumps(commands)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        preexec_fn=powerless if os.geteuid() == 0 else None,
        capture_output=True,
        text=True,
        check=False,
    )
    for each in CLOSED:
        (spoilt.root / each).chmod(0o700)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert {name: code for name, (code, *_) in told.items() if name != "verify"} == dict.fromkeys(
        ("status", "export", "report", "explain"), 0
    ), told
    assert told["verify"][0] == BLOCKED  # the archive is what it compares with
    (row,) = json.loads(told["status"][1]) if told["status"][1].startswith("[") else [{}]
    assert row.get("files_waiting", None) is None  # unknown, not none
    assert list((tmp_path / "site").rglob("index.html")) and list((tmp_path / "out").iterdir())


# Passwords


@pytest.mark.parametrize(
    "written",
    [
        "storage:\n  postgres:\n    postgres_db:\n      hostname: db\n      username: u\n      password: hunter22\n",
        "storage:\n  postgres:\n    postgres_url: postgresql://u:hunter22@db/dagster\n",
    ],
)
def test_a_password_in_dagsters_settings_is_refused_and_not_repeated(home: Home, written: str):
    settings = dagster_home(home) / "dagster.yaml"
    settings.write_text(settings.read_text() + written)
    with pytest.raises(HomeError, match=r"storage\.postgres") as refused:
        dagster_home(home)
    assert "hunter22" not in str(refused.value)


def test_a_password_from_the_environment_is_not(home: Home):
    settings = dagster_home(home) / "dagster.yaml"
    ours = (ROOT / "docs" / "deploy" / "dagster.yaml").read_text()
    assert "env: DAGSTER_PG_PASSWORD" in ours
    settings.write_text(ours)
    assert dagster_home(home) == settings.parent


@pytest.mark.parametrize("setting", ["smtp_password", "postgres_url", "alert_webhook"])
def test_a_policy_holds_no_password(home: Home, setting: str):
    (home.policies / "d1.toml").write_text(f'time_zone = "America/Denver"\n{setting} = "https://u:hunter22@x"\n')
    with pytest.raises(UnreadablePolicy, match=setting) as refused:
        home.policy("d1")
    assert "hunter22" not in str(refused.value)


# This machine only


def test_the_page_is_asked_to_bind_to_this_machine(small: Small, monkeypatch: pytest.MonkeyPatch):
    given: list[list[str]] = []
    for name in ("TIERLINE_HOME", "DAGSTER_HOME"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(giving.os, "execv", lambda _, command: given.append(command))
    assert CliRunner().invoke(cli.app, ["ui", "--home", str(small.home.root), "--port", "3999"]).exit_code == 0
    (command,) = given
    assert command[command.index("-h") + 1] == "127.0.0.1"
    assert command[command.index("-p") + 1] == "3999"


def listening(root: int) -> set[tuple[str, int]]:
    """Addresses on which a process or one it started listens for TCP; as hexadecimal of the kernel."""
    family = {root}
    for _ in range(5):
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                fields = path.read_text().rpartition(")")[2].split()
                if int(fields[1]) in family:
                    family.add(int(path.parent.name))
    sockets = set()
    for pid in family:
        with suppress(OSError):
            sockets |= {str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            parts = line.split()
            if parts[3] == "0A" and f"socket:[{parts[9]}]" in sockets:
                address, port = parts[1].split(":")
                found.add((address, int(port, 16)))
    return found


@pytest.fixture
def page(small: Small) -> Iterator[tuple[int, int]]:
    """A `tierline ui` that answers: its process and port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "pipelines.cli", "ui", "--home", str(small.home.root), "--port", str(port)]
    started = subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        for _ in range(600):
            with suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/server_info", timeout=2)
                break
            assert started.poll() is None
            time.sleep(0.5)
        yield started.pid, port
    finally:
        started.terminate()
        started.wait(60)


@pytest.mark.slow
def test_nothing_of_the_page_listens_to_other_machines(page: tuple[int, int]):
    pid, port = page
    found = listening(pid)
    assert ("0100007F", port) in found
    assert {address for address, _ in found} == {"0100007F"}


# What is shown


HOSTILE = "\x1b[31mred\x9b2J \u202eevil\x07"


def test_a_terminal_is_told_nothing_to_obey(capsys: pytest.CaptureFixture[str]):
    show_table([[HOSTILE, 1]], ["name", "n"])
    show_fields({"name": HOSTILE, "list": [HOSTILE]})
    console_of().print(f"held: {HOSTILE}\nnext", markup=False)
    with pytest.raises(SystemExit):
        fail(HOSTILE)
    said = capsys.readouterr()
    assert not set(said.out + said.err) & set("\x1b\x9b\u202e\x07")
    assert "\\x1b[31mred\\x9b2J \\u202eevil\\x07\nnext" in said.out


@pytest.mark.parametrize(
    ("cell", "safe"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@A1", "'@A1"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("\n=1", "'\n=1"),
        ("  =1", "'  =1"),
        ("＝1", "'＝1"),
        ("a;=1;b;-2", "a;'=1;b;'-2"),
        ("a\n=1", "a\n'=1"),
        ("Grade 4-5; class B", "Grade 4-5; class B"),
        ("2025-09-01", "2025-09-01"),
        (None, None),
    ],
)
def test_no_cell_of_a_spreadsheet_begins_a_formula(cell: str | None, safe: str | None):
    rows = pl.LazyFrame({"text": [cell], "number": [-1]}, schema={"text": pl.String, "number": pl.Int64})
    assert neutralised(rows).collect().rows() == [(safe, -1)]


def test_every_table_for_spreadsheets_is_neutralised():
    """Files that the simulator writes are exports, not results."""
    writing = [
        (path.name, line.strip())
        for folder in ("pipelines", "transforms", "warehouse")
        for path in (ROOT / folder).rglob("*.py")
        if path.parent.name != "simulate"
        for line in path.read_text("utf-8").splitlines()
        if any(each in line for each in ("sink_csv(", "write_csv(", "to_csv(", "write_excel(", "sink_excel("))
    ]
    assert len(writing) >= 3
    assert [each for each in writing if "neutralised(" not in each[1]] == []
