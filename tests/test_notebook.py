"""The notebook: what it computes is what the warehouse holds, and it is opened for nobody else."""

import importlib.util
import tomllib
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from pipelines import cli
from pipelines.commands import giving
from pipelines.commands.options import WRONG_USE
from pipelines.notebook import app
from tests.conftest import Lived
from warehouse.publish import connect

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def walked(lived: Lived) -> dict[str, object]:
    """Everything the cells define, run without a browser."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIERLINE_HOME", str(lived.home.root))
        _, defined = app.run()
    return dict(defined)


def table(lived: Lived, name: str) -> pl.DataFrame:
    with connect(lived.home.warehouse) as connection:
        return pl.DataFrame(connection.sql(f"from {name}"))


def test_it_walks_the_latest_window_of_the_first_district(walked, lived: Lived):
    assert walked["place"] == (lived.district, "2026", "spring")


def test_the_files_are_those_of_the_ledger(walked, lived: Lived):
    ledger = table(lived, "log.ingest_ledger")
    files = walked["files"]
    assert set(files["file"]) == set(ledger["file"])
    assert (files["status"] == "held").sum() == 1
    assert files["parsed"].sum() == ledger["parsed"].sum()


def test_the_tiers_are_counted_student_by_student(walked, lived: Lived):
    placed = table(lived, "projections.tier_placement")
    for row in walked["tiers"].to_dicts():
        tiers = placed.filter(benchmark_window=row["benchmark_window"])["tier"]
        assert [row[f"tier_{tier}"] for tier in (1, 2, 3)] == [(tiers == tier).sum() for tier in (1, 2, 3)]
        assert row["no_tier"] == tiers.null_count()
        share = (tiers >= 2).sum() / tiers.count()
        assert row["recommended_share"] == pytest.approx(share)
        assert row["recommended_low"] < share < row["recommended_high"]
    assert walked["tiers"]["benchmark_window"].to_list() == ["fall", "winter", "spring"]


def test_the_classes_are_those_decided(walked, lived: Lived):
    spring = table(lived, "projections.class_decision").filter(benchmark_window="spring")
    counts = spring.group_by("measure", "level").agg(classes=pl.len())
    assert set(walked["levels"].rows()) == set(counts.rows())
    flagged = spring.filter("is_flagged")
    assert flagged.height == walked["flags"].height > 0
    one = spring.filter(class_id=walked["class_choice"].value).sort("measure")
    assert (
        one.select("measure", "tested", "in_need").rows()
        == walked["one_class"].select("measure", "tested", "in_need").rows()
    )
    assert walked["limits"]["classes"].item() == spring.height


def test_the_cycle_is_one_of_the_district(walked, lived: Lived):
    cycle = walked["cycle_choice"].value
    outcomes = table(lived, "projections.cycle_outcome").filter(cycle_id=cycle)
    assert set(walked["outcomes"]["subject_key"]) == set(outcomes["subject_key"]) != set()
    assert walked["one_cycle"]["members"].item() == outcomes.height


def test_the_command_opens_it_on_this_machine_only_and_asks_nobody(lived: Lived, monkeypatch: pytest.MonkeyPatch):
    given: list[list[str]] = []
    for name in ("TIERLINE_HOME", "MARIMO_SKIP_UPDATE_CHECK"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(giving.os, "execv", lambda _, command: given.append(command))
    result = CliRunner().invoke(cli.app, ["notebook", "--home", str(lived.home.root), "--port", "2719"])
    assert result.exit_code == 0, result.output
    (command,) = given
    assert command[1:5] == ["-m", "marimo", "run", str(giving.NOTEBOOK)]
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--port") + 1] == "2719"
    assert "--token" in command
    assert giving.os.environ["MARIMO_SKIP_UPDATE_CHECK"] == "1"
    assert giving.os.environ["TIERLINE_HOME"] == str(lived.home.root)


def test_without_marimo_the_command_says_how_to_get_it(lived: Lived, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = CliRunner().invoke(cli.app, ["notebook", "--home", str(lived.home.root)])
    assert result.exit_code == WRONG_USE
    assert "-m pip install 'tierline[notebook]'" in result.stderr


def test_it_is_shipped_and_its_extra_is_named():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert giving.NOTEBOOK.is_file()
    assert giving.NOTEBOOK.parent.name in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert any(each.startswith("marimo") for each in project["project"]["optional-dependencies"]["notebook"])
