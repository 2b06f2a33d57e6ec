"""The command line: exit codes, JSON, errors that hold no cell, homes that are missing, and a quick start."""

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from typer.testing import CliRunner

from pipelines import cli
from pipelines.commands.options import BLOCKED, DONE, NOTHING, WRONG_USE
from pipelines.demo import is_free, make_demo
from schemas.projections import ClassDecision, QualityResult
from tests.conftest import RENAMED, Lived, Small
from warehouse.home import Home
from warehouse.projections import Projections
from warehouse.publish import UnreadableWarehouse, ask

HEADERS = Path(__file__).parent / "headers"
ON_A_HOME = [
    ["run"],
    ["status"],
    ["verify"],
    ["report"],
    ["ui"],
    ["explain", "class", "x"],
    ["explain", "student", "x"],
    ["explain", "cycle", "x"],
]


@pytest.fixture(autouse=True)
def as_in_a_pipe(monkeypatch: pytest.MonkeyPatch):
    """Whoever runs the tests may have a width of their own."""
    monkeypatch.delenv("COLUMNS", raising=False)


def tierline(*arguments: object) -> tuple[int, str, str]:
    """Exit code, output and errors of a command run in this process."""
    result = CliRunner().invoke(cli.app, [str(each) for each in arguments])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def class_id(lived: Lived) -> str:
    rows = Projections(lived.home.projections).read(ClassDecision).collect()
    return str(rows.filter(pl.col("enrolled") > 10)["class_id"].sort()[0])


@pytest.mark.parametrize("command", ON_A_HOME, ids=" ".join)
@pytest.mark.parametrize("exists", [False, True], ids=["missing", "empty"])
def test_a_missing_or_empty_home_is_told_and_not_made(tmp_path: Path, command: list[str], exists: bool):
    home = tmp_path / "home"
    if exists:
        home.mkdir()
    code, out, error = tierline(*command, "--home", home)
    assert code == NOTHING
    assert out == ""
    assert "No district in" in error
    assert "landing/<district>/" in error
    assert home.exists() == exists
    assert not exists or not list(home.iterdir())


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["run", "--as-of", "2026-10-31"], "--as-of and --out go together"),
        (["run", "--as-of", "soon", "--out", "x"], "write a day such as"),
        (["run", "--school-year", "25-26"], "write the year in which it ends"),
        (["layouts", "no/such/file.csv"], "does not exist"),
        (["simulate", "--out", "x", "--students", "3"], "200"),
        (["nothing"], "nothing"),
    ],
)
def test_wrong_use_ends_with_two_and_says_what_is_right(tmp_path: Path, command: list[str], words: str):
    code, _, error = tierline(*command)
    assert code == WRONG_USE
    assert words in error


def test_the_version_is_the_distributions():
    assert tierline("--version")[:2] == (DONE, "tierline 0.1.0\n")


def test_help_says_the_exit_codes_and_every_command():
    code, out, _ = tierline("--help")
    assert code == DONE
    assert "Exit codes" in out
    for command in ("demo", "run", "status", "explain", "layouts", "simulate", "verify", "ui"):
        assert command in out


def test_status_in_json_and_in_words(lived: Lived):
    code, out, _ = tierline("status", "--home", lived.home.root, "--json")
    (told,) = json.loads(out)
    assert code == DONE
    assert told["district_id"] == lived.district
    code, out, _ = tierline("status", "--home", lived.home.root, "-d", lived.district)
    assert code == DONE
    assert f"held: {RENAMED}" in out
    assert "spring" in out
    assert f"{told['data_rows']:,}" in out


def test_an_unknown_district_is_told_with_the_known_ones(lived: Lived):
    code, _, error = tierline("status", "--home", lived.home.root, "--district", "nowhere")
    assert code == NOTHING
    assert f"Known: {lived.district}" in error


def test_districts_are_completed(lived: Lived, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("_TIERLINE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "tierline status --district d")
    monkeypatch.setenv("COMP_CWORD", "3")
    monkeypatch.setenv("TIERLINE_HOME", str(lived.home.root))
    result = CliRunner().invoke(cli.app, [], prog_name="tierline")
    assert result.stdout.split() == [lived.district]


def test_a_class_is_explained_in_words_and_in_json(lived: Lived, class_id: str):
    asked = ("explain", "class", class_id, "--home", lived.home.root, "--window", "spring")
    code, out, _ = tierline(*asked, "--measure", "map_growth_math")
    assert code == DONE
    assert "tested students" in out
    assert "map_growth/AssessmentResults_Spring_2025-2026.csv" in out
    code, out, _ = tierline(*asked, "--json")
    sections = json.loads(out)
    assert {row["benchmark_window"] for row in sections["Students"]} == {"spring"}
    assert all(row["source_line"] > 1 for row in sections["Chosen tests, every version"])


def test_what_is_not_known_or_filtered_away_ends_with_three(lived: Lived, class_id: str):
    code, _, error = tierline("explain", "class", "nobody", "--home", lived.home.root)
    assert (code, error.split(" is known")[0]) == (NOTHING, "No class")
    code, _, error = tierline("explain", "class", class_id, "--measure", "none", "--home", lived.home.root)
    assert code == NOTHING
    assert "has nothing" in error


def test_layouts_are_listed_and_a_file_is_recognised(tmp_path: Path):
    code, out, _ = tierline("layouts")
    assert code == DONE
    assert "nwea_map_assessment_results" in out
    assert len(json.loads(tierline("layouts", "--json")[1])) > 30
    code, out, _ = tierline("layouts", HEADERS / "iready_2026.csv", "--home", tmp_path / "none")
    assert code == DONE
    assert "iready_2026" in out


def test_a_file_nobody_knows_ends_with_three_and_shows_no_cell(tmp_path: Path):
    path = tmp_path / "list.csv"
    path.write_text("Name,Shoe Size\nAna,36\n")
    code, out, _ = tierline("layouts", path, "--json", "--home", tmp_path / "none")
    assert code == NOTHING
    (told,) = json.loads(out)
    assert told["rule"] == "unknown_layout"
    assert "Ana" not in out
    (tmp_path / "empty.csv").write_text("")
    assert tierline("layouts", tmp_path / "empty.csv", "--home", tmp_path / "none")[0] == NOTHING


@pytest.mark.slow
def test_verify_passes_on_a_good_home_and_blocks_on_another(small: Small, spoilt: Home):
    code, out, _ = tierline("verify", "--rebuild", "--home", small.home.root, "--json")
    assert code == DONE
    assert all(each["is_passed"] for each in json.loads(out))
    next(path for path in spoilt.archive.rglob("*") if path.is_file()).unlink()
    code, out, _ = tierline("verify", "--home", spoilt.root)
    assert code == BLOCKED
    assert f"NOT {small.district}: archive: 1 archived files are missing" in out


@pytest.mark.slow
def test_what_was_known_by_now_is_what_is_known(lived: Lived, tmp_path: Path):
    """Also what Great Expectations says, because a rule of it that blocks changes what is decided."""
    out = tmp_path / "then"
    code, told, _ = tierline("run", "--home", lived.home.root, "--as-of", "2100-01-01", "--out", out, "--json")
    assert code == DONE
    assert json.loads(told)["districts"] == 1
    for contract in (QualityResult, ClassDecision):
        now, then = (Projections(home.projections).read(contract).collect() for home in (lived.home, Home(out)))
        assert_frame_equal(now, then, check_row_order=False)


def test_simulate_tells_what_it_wrote(tmp_path: Path):
    code, out, _ = tierline("simulate", "--out", tmp_path, "--students", 200, "--json")
    assert code == DONE
    (made,) = json.loads(out)
    assert made["files"] == len([path for path in (tmp_path / "d001").rglob("*") if path.is_file()])


def test_the_demo_keeps_out_of_a_home_with_districts_of_its_own(tmp_path: Path):
    home = Home(tmp_path / "home")
    assert is_free(home)
    make_demo(home, students=200)
    assert is_free(home)
    (home.landing / "real").mkdir()
    assert not is_free(home)
    code, _, error = tierline("demo", "--home", home.root)
    assert code == WRONG_USE
    assert "a folder for itself" in error


def told_by(error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and message of the entry point when a command fails with an error."""

    def fails() -> None:
        raise error

    monkeypatch.setattr(cli, "app", fails)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(str(ended.value.code)), capsys.readouterr().err


def test_an_error_of_ours_is_told_in_its_own_words(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    assert told_by(UnreadableWarehouse("In words."), monkeypatch, capsys) == (BLOCKED, "In words.\n")


def test_an_error_of_others_is_told_by_type_and_place_without_its_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    code, told = told_by(pl.exceptions.ComputeError("cannot cast Ana Smith"), monkeypatch, capsys)
    assert code == BLOCKED
    assert "ComputeError in " in told
    assert "Ana" not in told
    code, told = told_by(PermissionError(13, "Permission denied", "/data/log"), monkeypatch, capsys)
    assert told.startswith("/data/log: Permission denied.")


def test_a_warehouse_that_is_none_is_told_by_its_name(tmp_path: Path):
    path = tmp_path / "warehouse.duckdb"
    assert ask(path, "select 1") is None
    path.write_text("Ana, 36")
    with pytest.raises(UnreadableWarehouse, match=r"warehouse\.duckdb cannot be read") as raised:
        ask(path, "select 1")
    assert "Ana" not in str(raised.value)


@pytest.mark.parametrize(
    ("command", "heavy"),
    [
        (["--help"], ("dagster", "great_expectations", "polars", "pandera", "deltalake", "duckdb")),
        pytest.param(["status"], ("dagster", "great_expectations"), marks=pytest.mark.slow),
    ],
    ids=["help", "status"],
)
def test_what_a_command_does_not_need_it_does_not_import(lived: Lived, command: list[str], heavy: tuple[str, ...]):
    code = (
        "import sys; from typer.testing import CliRunner; from pipelines.cli import app;"
        f"result = CliRunner().invoke(app, {command!r});"
        "print(result.exit_code, *[name for name in sys.argv[1:] if name in sys.modules])"
    )
    environment = {**os.environ, "TIERLINE_HOME": str(lived.home.root)}
    done = subprocess.run(
        [sys.executable, "-c", code, *heavy], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["0"]
