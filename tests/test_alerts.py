"""Alerts: who is told what, once, and that no secret and no cell goes with it."""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from typer.testing import CliRunner

from pipelines import alerts, cli
from pipelines.alerts import AlertNotSent, Item, Mail, Settings, UnusableAlerts, alert, failing, settings
from pipelines.commands.options import DONE, NOTHING, WRONG_USE
from pipelines.history import instance_of
from pipelines.runs import run_graph
from pipelines.sensors import EVERYTHING, broken_off
from pipelines.work import Outcome
from tests.homes import POLICY, map_file, map_row
from warehouse.home import Home

NIGHT = datetime(2026, 9, 1, 9, tzinfo=UTC)
HELD = Item("d1", "renamed_column", about="ingest_ledger", count=1)
WARNING = Item("d1", "score_drift", "2026", "map_growth_math", 40, is_blocking=False)


@contextmanager
def http_server(status: int = 200, moved_to: str = "") -> Iterator[tuple[str, list[dict]]]:
    """A webhook on this machine: its address, and what it was told."""
    told: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            if moved_to:
                self.send_header("Location", moved_to)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook/secret-token", told
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def mail_server() -> Iterator[tuple[int, list[str]]]:
    """A mail server on this machine that speaks as much SMTP as is needed: its port, and the letters."""
    letters: list[str] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 here\r\n")
            while line := self.rfile.readline().decode().strip():
                if line.upper() == "DATA":
                    self.wfile.write(b"354 go on\r\n")
                    body = []
                    while (part := self.rfile.readline().decode().rstrip("\r\n")) != ".":
                        body.append(part)
                    letters.append("\n".join(body))
                self.wfile.write(b"221 bye\r\n" if line.upper() == "QUIT" else b"250 fine\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], letters
        server.shutdown()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").make()


# What the environment says


def test_nothing_set_is_no_alerts():
    assert settings({}).channels == []


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"TIERLINE_ALERT_WEBHOOK": "http://chat.example/secret"}, "TIERLINE_ALERT_WEBHOOK is not an https"),
        ({"TIERLINE_ALERT_WEBHOOK": "file:///etc/secret"}, "TIERLINE_ALERT_WEBHOOK is not an https"),
        ({"TIERLINE_ALERT_ON": "secret"}, "TIERLINE_ALERT_ON is neither blocking nor any"),
        ({"TIERLINE_ALERT_EMAIL": "a@b.c"}, "needs TIERLINE_SMTP_HOST"),
        ({"TIERLINE_ALERT_EMAIL": "secret", "TIERLINE_SMTP_HOST": "m"}, "is not a list of addresses"),
        (
            {"TIERLINE_ALERT_EMAIL": "a@b.c", "TIERLINE_SMTP_HOST": "m", "TIERLINE_SMTP_SECURITY": "none"},
            "this machine",
        ),
        ({"TIERLINE_ALERT_EMAIL": "a@b.c", "TIERLINE_SMTP_HOST": "m", "TIERLINE_SMTP_SECURITY": "x"}, "is none of"),
        ({"TIERLINE_ALERT_EMAIL": "a@b.c", "TIERLINE_SMTP_HOST": "m", "TIERLINE_SMTP_USER": "secret"}, "go together"),
        ({"TIERLINE_ALERT_EMAIL": "a@b.c", "TIERLINE_SMTP_HOST": "m", "TIERLINE_SMTP_PORT": "secret"}, "not a number"),
        ({"TIERLINE_ALERT_EMAIL": "a@b.c\nBcc: x@y.z", "TIERLINE_SMTP_HOST": "m"}, "is not a list of addresses"),
    ],
)
def test_settings_that_cannot_be_used_are_told_by_name_and_not_by_value(environment, words):
    with pytest.raises(UnusableAlerts, match=words) as raised:
        settings(environment)
    assert "secret" not in str(raised.value)


def test_a_mail_server_has_sound_defaults():
    found = settings({"TIERLINE_ALERT_EMAIL": "a@b.c, d@e.f", "TIERLINE_SMTP_HOST": "mail.example"}).mail
    assert found == Mail(("a@b.c", "d@e.f"), "a@b.c", "mail.example", 587, "starttls")


# What is told, and when


def test_a_webhook_is_told_once_again_after_a_week_and_when_it_is_over(home):
    with http_server() as (address, told):
        wanted = Settings(webhook=address)

        def night(number: int, *items: Item) -> list[str]:
            return alert(home, items, ["d1"], wanted, NIGHT + timedelta(days=number))

        assert night(0) == []
        assert night(1, HELD) == ["webhook"]
        assert night(2, HELD) == []
        assert night(3, Item("d1", "renamed_column", about="ingest_ledger", count=2)) == []
        assert night(8, HELD) == ["webhook"]
        assert night(9, HELD, Item("d2", "match_rate", count=1)) == ["webhook"]
        assert night(10) == ["webhook"]
        assert night(11) == []
    assert [each["text"].splitlines()[0] for each in told] == [
        "Tierline: 1 district needs attention",
        "Tierline: 1 district needs attention",
        "Tierline: 2 districts need attention",
        "Tierline: nothing fails or waits any longer",
    ]
    assert told[0]["text"].splitlines()[1] == "d1: ingest_ledger: renamed_column: 1"
    assert told[0]["items"] == [
        {"district_id": "d1", "rule": "renamed_column", "school_year": "", "about": "ingest_ledger", "count": 1,
         "is_blocking": True},
    ]  # fmt: skip


def test_warnings_are_told_only_where_they_are_wanted(home):
    with http_server() as (address, told):
        assert alert(home, [WARNING], ["d1"], Settings(webhook=address), NIGHT) == []
        assert alert(home, [WARNING], ["d1"], Settings(webhook=address, level="any"), NIGHT) == ["webhook"]
    assert told[0]["text"].splitlines()[1] == "d1: 2026 map_growth_math: score_drift: 40 (warning)"


def test_a_run_for_one_district_leaves_what_is_known_of_the_others(home):
    refused = Item("d2", "refused: nested_archive", count=1, is_of_run=True)
    with http_server() as (address, _):
        wanted = Settings(webhook=address)
        assert alert(home, [refused], ["d1", "d2"], wanted, NIGHT) == ["webhook"]
        assert alert(home, [], ["d1"], wanted, NIGHT) == []
        assert alert(home, [], ["d2"], wanted, NIGHT) == ["webhook"]


def test_an_e_mail_says_the_same(home):
    with mail_server() as (port, letters):
        mail = Mail(
            ("a@district.example", "b@district.example"), "tierline@district.example", "127.0.0.1", port, "none"
        )
        assert alert(home, [HELD], ["d1"], Settings(mail=mail), NIGHT) == ["email"]
    (letter,) = letters
    assert "Subject: Tierline: 1 district needs attention" in letter
    assert "To: a@district.example, b@district.example" in letter
    assert "d1: ingest_ledger: renamed_column: 1" in letter


@pytest.mark.parametrize("status", [500, 302])
def test_a_channel_that_cannot_be_reached_is_tried_at_the_next_run_and_keeps_its_secret(home, status):
    with http_server(status, "http://127.0.0.1:9/elsewhere") as (address, _), pytest.raises(AlertNotSent) as raised:
        alert(home, [HELD], ["d1"], Settings(webhook=address), NIGHT)
    assert "secret-token" not in str(raised.value)
    assert "webhook (HTTPError)" in str(raised.value)
    with http_server() as (address, _):
        assert alert(home, [HELD], ["d1"], Settings(webhook=address), NIGHT) == ["webhook"]


def test_a_memory_that_cannot_be_read_is_none(home):
    (home.root / ".alerts.json").write_text("[1")
    with http_server() as (address, _):
        assert alert(home, [HELD], ["d1"], Settings(webhook=address), NIGHT) == ["webhook"]


def test_long_lists_are_cut():
    text = alerts._text([Item(f"d{n}", "match_rate") for n in range(50)], NIGHT)
    assert "and 10 more" in text


def test_what_fails_is_counted_by_rule():
    rows = pl.DataFrame(
        {
            "district_id": ["d1", "d1", "d1", None],
            "school_year": ["2026", "2026", "2026", None],
            "about": ["need_level", "need_level", "need_level", "marts"],
            "rule": ["contract", "contract", "fine", "sums"],
            "is_blocking": [True, True, True, True],
            "is_passed": [False, False, True, False],
            "rows": [2, 3, 0, 1],
            "school_id": ["Elm", "Oak", None, None],
        }
    )
    found = failing([rows], Outcome(["d1"], failed={"d2": "why"}))
    assert found == [
        Item("all", "sums", "", "marts", 1),
        Item("d1", "contract", "2026", "need_level", 5),
        Item("d2", "not brought up to date", count=1, is_of_run=True),
    ]


# Runs


@pytest.fixture
def district(home: Home) -> Home:
    """A home with a file that will be held."""
    (home.policies / "d1.toml").write_text(POLICY)
    (home.landing / "d1").mkdir()
    (home.landing / "d1" / "Ana Quill.csv").write_text(map_file(map_row("1", 186)).replace("TestRITScore", "RIT", 1))
    return home


def test_a_partial_run_alerts_with_rules_and_counts_only(district, monkeypatch):
    with http_server() as (address, told):
        monkeypatch.setenv("TIERLINE_ALERT_WEBHOOK", address)
        assert run_graph(district).exit_code == 1
        assert run_graph(district).exit_code == 1
    (message,) = told
    assert "d1: ingest_ledger: missing_column: 1" in message["text"] or "renamed_column: 1" in message["text"]
    assert "Quill" not in json.dumps(message)


@pytest.mark.slow
def test_a_run_does_not_fail_with_its_alert(district, monkeypatch):
    monkeypatch.setenv("TIERLINE_ALERT_WEBHOOK", "http://127.0.0.1:9/secret")
    outcome = run_graph(district)
    assert (outcome.exit_code, outcome.failed) == (1, {})


def test_a_run_that_broke_off_is_told_by_the_sensor(home, monkeypatch):
    with http_server() as (address, told), instance_of(home) as history:
        monkeypatch.setenv("TIERLINE_ALERT_WEBHOOK", address)
        for tags in ({}, {"tierline/outcome": "failed"}):
            run = dg.DagsterRun(job_name=EVERYTHING.name, tags=tags)
            event = dg.DagsterEvent("PIPELINE_FAILURE", EVERYTHING.name)
            context = dg.build_run_status_sensor_context(
                "broken_off", dagster_instance=history, dagster_run=run, dagster_event=event
            ).for_run_failure()
            broken_off(context)
    (message,) = told
    assert "Tierline: a run broke off" in message["text"]


# The command


def tierline(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli.app, list(arguments))
    return result.exit_code, result.stdout, result.stderr


def test_the_command_says_what_is_set_up_and_tests_it(monkeypatch):
    for name in ("WEBHOOK", "EMAIL", "ON"):
        monkeypatch.delenv(f"TIERLINE_ALERT_{name}", raising=False)
    assert tierline("alerts")[0] == NOTHING
    with http_server() as (address, told):
        monkeypatch.setenv("TIERLINE_ALERT_WEBHOOK", address)
        code, out, _ = tierline("alerts", "--test", "--json")
        assert (code, json.loads(out)["is_sent"]) == (DONE, True)
        assert "secret-token" not in out
    assert told[0]["text"].startswith("Tierline: a test")
    monkeypatch.setenv("TIERLINE_ALERT_ON", "sometimes")
    assert tierline("alerts")[0] == WRONG_USE
