"""The documents: links that lead somewhere, an example that loads, and files for operation that fit together."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from dagster._config import validate_config
from dagster_postgres import DagsterPostgresStorage
from typer.testing import CliRunner

from pipelines import alerts, cli
from pipelines.history import instance_of
from schemas.exports import read_layouts
from tests.parsing import facts, outcomes, read
from warehouse.home import Home

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
DEPLOY = DOCS / "deploy"
PAGES = sorted(DOCS.rglob("*.md"))
SITE = yaml.safe_load((DOCS / "site" / "mkdocs.yml").read_text("utf-8"))
UNITS = sorted(DEPLOY.glob("*.service")) + sorted(DEPLOY.glob("*.timer"))
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def fenced(page: str, language: str) -> list[str]:
    """Blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", (DOCS / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)


def without_comments(path: Path) -> str:
    return re.sub(r"<!--.*?-->", "", path.read_text("utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_to_a_file(page: Path):
    wanted = [each for each in LINK.findall(without_comments(page)) if "://" not in each]
    assert [each for each in wanted if not (page.parent / each).exists()] == []


def named(tree: object) -> set[str]:
    """Pages that the site's menu names."""
    if isinstance(tree, str):
        return {tree}
    parts = tree.values() if isinstance(tree, dict) else tree
    return {page for part in parts for page in named(part)}


def test_the_menu_of_the_site_has_every_page_but_the_single_decisions():
    pages = {path.relative_to(DOCS).as_posix() for path in PAGES}
    single = {page for page in pages if re.match(r"decisions/\d", page)}
    assert named(SITE["nav"]) == pages - single
    listed = set(LINK.findall((DOCS / "decisions" / "index.md").read_text("utf-8")))
    assert {f"decisions/{each}" for each in listed} == single


def test_the_site_asks_for_nothing_from_elsewhere():
    assert SITE["theme"]["font"] is False
    assert not {"extra_javascript", "extra_css"} & SITE.keys()
    assert not any(fenced(path.relative_to(DOCS).as_posix(), "mermaid") for path in PAGES)


def test_the_example_of_a_layout_is_read_as_its_page_says():
    (text,) = fenced("add-a-layout.md", "toml")
    (rows,) = fenced("add-a-layout.md", "csv")
    (layout,) = read_layouts(tomllib.loads(text))
    binding, parsed = read(rows, layout)
    assert (binding.layout.id, binding.new, binding.missing) == ("example_screener", (), ())
    assert outcomes(parsed) == ["parsed", "parsed", "out_of_scope", "rejected"]
    assert facts(parsed, "screening", "measure", "score", "percentile", "school_year") == [
        ("example_math", 412.0, 22.0, "2027"),
        ("example_math", 455.0, 99.0, "2027"),
    ]


def test_every_command_the_pages_name_exists():
    said = {
        each
        for page in [ROOT / "README.md", *PAGES]
        for each in re.findall(r"(?:^|`|bin/)tierline ([a-z]+)", page.read_text("utf-8"), re.MULTILINE)
    }
    known = CliRunner().invoke(cli.app, ["--help"]).stdout
    assert said >= {"run", "layouts", "alerts", "verify"}
    assert {each for each in said if not re.search(rf"\b{each}\b", known)} == set()


# Files for operation


def test_the_compose_file_fits_together():
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    services = compose["services"]
    assert services.keys() == {"postgres", "web", "daemon"}
    for name in ("web", "daemon"):
        build = services[name]["build"]
        context = (DEPLOY / build["context"]).resolve()
        assert context == ROOT
        assert (context / build["dockerfile"]).is_file()
        assert services[name]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
        assert services[name]["command"][-2:] == ["-m", "pipelines.definitions"]
    assert "healthcheck" in services["postgres"] and "ports" not in services["postgres"]
    assert all(port.startswith("127.0.0.1:") for port in services["web"]["ports"])
    assert services["postgres"]["volumes"][0].split(":")[0] in compose["volumes"]


def test_every_variable_of_the_compose_file_is_in_its_example():
    used = set(re.findall(r"\$\{([A-Z_]+)", (DEPLOY / "compose.yaml").read_text("utf-8")))
    given = set(re.findall(r"^([A-Z_]+)=", (DEPLOY / "compose.env.example").read_text("utf-8"), re.MULTILINE))
    assert used == given


def test_every_variable_of_the_examples_is_read():
    text = (ROOT / "pipelines" / "alerts.py").read_text("utf-8")
    for name in re.findall(r"^(TIERLINE_[A-Z_]+)=", (DEPLOY / "alerts.env.example").read_text("utf-8"), re.MULTILINE):
        assert name in text or name.removeprefix(alerts.SMTP) in text


def test_what_the_image_copies_is_there_and_installs():
    text = (DEPLOY / "Dockerfile").read_text("utf-8")
    copied = [name for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE) for name in line.split()[:-1]]
    assert [name for name in copied if not (ROOT / name).exists()] == []
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    project, wheel = whole["project"], whole["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = (*wheel["packages"], *wheel["force-include"], *project["license-files"], project["readme"])
    assert set(needed) <= set(copied)
    (extra,) = re.findall(r"'\.\[(\w+)\]'", text)
    assert extra in project["optional-dependencies"]
    assert re.search(r"^USER tierline$", text, re.MULTILINE)


def test_the_settings_of_the_image_are_settings_of_dagster(tmp_path: Path):
    settings = yaml.safe_load((DEPLOY / "dagster.yaml").read_text("utf-8"))
    postgres = settings.pop("storage")["postgres"]
    assert validate_config(DagsterPostgresStorage.config_type(), postgres).success
    assert not validate_config(DagsterPostgresStorage.config_type(), {"postgres_db": {"host": "x"}}).success
    folder = tmp_path / "home" / ".dagster"
    folder.mkdir(parents=True)
    text = (DEPLOY / "dagster.yaml").read_text("utf-8").replace("/opt/dagster", str(folder))
    without = re.sub(r"^storage:\n(?:  .*\n)+", "", text, flags=re.MULTILINE)
    assert "storage:\n  postgres" not in without
    (folder / "dagster.yaml").write_text(without, "utf-8")
    with instance_of(Home(tmp_path / "home")) as instance:
        assert not instance.telemetry_enabled
        assert instance.run_monitoring_enabled


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_a_unit_runs_a_command_that_exists(unit: Path):
    text = unit.read_text("utf-8")
    for command in re.findall(r"^ExecStart=\S+/tierline (.+)$", text, re.MULTILINE):
        assert CliRunner().invoke(cli.app, [command.split()[0], "--help"]).exit_code == 0
    assert "password" not in text.lower() or "EnvironmentFile" in text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not on this machine")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path):
    for unit in UNITS:  # the program is not in /opt on the machine of the test
        text = re.sub(r"^ExecStart=.*$", "ExecStart=/bin/true", unit.read_text("utf-8"), flags=re.MULTILINE)
        (tmp_path / unit.name).write_text(text, "utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", *sorted(str(path) for path in tmp_path.iterdir())],
        capture_output=True, text=True, env={**os.environ, "SYSTEMD_COLORS": "0"}, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
