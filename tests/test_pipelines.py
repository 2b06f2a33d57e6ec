"""The whole graph: what runs, for which districts, what a failure stops, and what starts a run."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from pipelines.assets import STATE, bring_up_to_date
from pipelines.checks import balances, by_check, check_results
from pipelines.contracts import MADE_FROM, SPECS
from pipelines.definitions import defs
from pipelines.history import _settings, dagster_home, instance_of
from pipelines.partitions import ONLY, RANGE_END, RANGE_START, districts_of, run_tags
from pipelines.quality import contract_results
from pipelines.refresh import READS
from pipelines.runs import rebuild_as_of, run_graph
from pipelines.sensors import MOST_OFFERS, cursor_of, landed_files, look, nightly, remembered
from pipelines.simulate import simulate
from pipelines.work import BLOCKED, DONE, NOTHING, Outcome, PassFailed, Work, told
from schemas.contract import conform, table_name
from schemas.projections import TierPlacement
from warehouse.home import Home, HomeError
from warehouse.publish import connect

GRAPH = Path(__file__).parent / "golden/asset_graph.txt"
POLICY = 'time_zone = "America/Denver"\n'
SECRET_CELL = "Quixote-4711"
UNKNOWN_FILE = f"Some Name,Some Number\n{SECRET_CELL},1\n"
Run = tuple[Outcome, dg.DagsterInstance]


def names(keys: Any) -> list[str]:
    return sorted("/".join(key.path) for key in keys)


def home_of(root: Path, **policies: str | None) -> Home:
    """A home with these districts; a district without a policy has None."""
    home = Home(root).make()
    for district, policy in policies.items():
        (home.landing / district).mkdir(parents=True, exist_ok=True)
        if policy is not None:
            (home.policies / f"{district}.toml").write_text(policy, "utf-8")
    return home


def land(home: Home, district: str, name: str, text: str, seconds: int = 1_760_000_000) -> None:
    path = home.landing / district / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    os.utime(path, (seconds, seconds))


def scores(*rows: str) -> str:
    return "\n".join(("student_id,school_id,grade,school_year,window,measure,test_date,score", *rows, ""))


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture(scope="module")
def three_districts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, Run, Run]]:
    """d001 is good, d002 has no policy, d003 has a file that nobody knows; the graph runs twice."""
    home = home_of(tmp_path_factory.mktemp("home"), d001=POLICY, d002=None, d003=POLICY)
    simulate(home.landing, districts=3, students=210, schools=1, kinds=("roster", "map_growth"))
    for path in home.landing.glob("d003/map_growth/*_[WS]*.csv"):  # one window is as good as three
        path.unlink()
    land(home, "d003", "unknown.csv", UNKNOWN_FILE)
    with dg.DagsterInstance.ephemeral() as first, dg.DagsterInstance.ephemeral() as second:
        yield home, (run_graph(home, instance=first), first), (run_graph(home, instance=second), second)


def checks_of(instance: dg.DagsterInstance) -> dict[str, dg.AssetCheckEvaluation]:
    run = instance.get_runs(limit=1)[0]
    events = [each.dagster_event for each in instance.all_logs(run.run_id) if each.dagster_event]
    found = [each.asset_check_evaluation_data for each in events if each.event_type_value == "ASSET_CHECK_EVALUATION"]
    return {f"{'/'.join(each.asset_key.path)} {each.check_name}": each for each in found}


def told_by(instance: dg.DagsterInstance) -> str:
    """Everything a run left behind in Dagster."""
    return "\n".join(repr(log) for run in instance.get_runs() for log in instance.all_logs(run.run_id))


def test_the_graph_is_the_one_that_was_agreed():
    graph = "".join(
        f"{name} <- {', '.join(names(dep.asset_key for dep in spec.deps))}".rstrip("<- ") + "\n"
        for name, spec in sorted(("/".join(spec.key.path), spec) for spec in SPECS)
    )
    if os.environ.get("TIERLINE_REWRITE_GOLDEN"):
        GRAPH.write_text(graph, "utf-8")
    assert graph == GRAPH.read_text("utf-8"), "run with TIERLINE_REWRITE_GOLDEN=1 and look at the difference"


def test_a_projection_stands_behind_every_family_it_reads():
    def behind(name: str) -> set[str]:
        direct = MADE_FROM.get(name, ())
        return {*direct, *(each for one in direct for each in behind(one))}

    for contract, families in READS.items():
        name = f"projections/{table_name(contract)}"
        assert {f"events/{family}" for family in families} <= behind(name), name


def test_every_asset_has_words_columns_an_owner_and_a_freshness_policy():
    for spec in SPECS:
        assert spec.description and spec.owners and spec.kinds and spec.freshness_policy and spec.code_version
        schema = spec.metadata.get("dagster/column_schema")
        assert spec.key.path[-1] == "warehouse" or all(column.description for column in schema.columns)


@pytest.mark.slow
def test_definitions_load_where_there_is_no_home(tmp_path: Path):
    environment = {name: value for name, value in os.environ.items() if name not in ("TIERLINE_HOME", "DAGSTER_HOME")}
    code = "import pipelines.definitions, sys; print('great_expectations' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(GRAPH.parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"
    assert list(tmp_path.iterdir()) == []
    dg.Definitions.validate_loadable(defs)


def test_a_bad_district_stops_no_other(three_districts: tuple[Home, Run, Run]):
    home, (outcome, _), _ = three_districts
    assert outcome.exit_code == BLOCKED
    assert list(outcome.failed) == ["d002"]
    assert "policy/d002.toml does not exist" in outcome.failed["d002"]
    assert outcome.held == {"d003": ["unknown_layout"]}
    assert outcome.up_to_date == ["d001", "d003"]
    with connect(home.warehouse) as connection:
        shown = connection.execute("select distinct district_id from marts.classroom_flag order by 1").fetchall()
    assert shown == [("d001",), ("d003",)]


def test_only_what_was_brought_up_to_date_is_materialized(three_districts: tuple[Home, Run, Run]):
    _, (_, instance), _ = three_districts
    for spec in SPECS:
        assert instance.get_materialized_partitions(spec.key) == {"d001", "d003"}, spec.key
    run = instance.get_runs(limit=1)[0]
    assert run.status == dg.DagsterRunStatus.FAILURE
    assert run.tags[STATE] == "partial"
    record = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=dg.AssetKey(["events", "screening"]), asset_partitions=["d001"]), limit=1
    ).records[0]
    assert record.asset_materialization.metadata["dagster/partition_row_count"].value > 100


def test_checks_say_which_district_failed(three_districts: tuple[Home, Run, Run]):
    _, (_, instance), _ = three_districts
    checks = checks_of(instance)
    assert not checks["exports/ingest_ledger policy"].passed
    assert not checks["exports/ingest_ledger held"].passed
    listed = checks["exports/ingest_ledger held"].metadata["what_failed"].records
    assert [(each.data["district_id"], each.data["rule"], each.data["rows"]) for each in listed] == [
        ("d003", "unknown_layout", 1)
    ]
    for name in ("exports/ingest_ledger reconciliation", "projections/tier_placement contract"):
        assert checks[name].passed, name
    assert all(each.passed for name, each in checks.items() if name.startswith("marts/"))


def test_nothing_dagster_keeps_holds_a_cell(three_districts: tuple[Home, Run, Run]):
    home, (_, first), (_, second) = three_districts
    kept = told_by(first) + told_by(second)
    words = set(re.findall(r"[\w.-]+", kept))
    students = pl.read_csv(next(home.archive.glob("d001/*/users.csv")), infer_schema=False)
    for column in ("sourcedId", "givenName", "familyName", "identifier"):
        cells = students[column].drop_nulls().unique().to_list()
        assert cells and not words & set(cells), column
    assert SECRET_CELL not in kept


def test_a_second_run_changes_nothing_and_still_says_what_waits(three_districts: tuple[Home, Run, Run]):
    _, (first, _), (second, instance) = three_districts
    assert first.published and not second.published
    assert second.refreshed.updated == [] and not any(load.rows for load in second.loads.values())
    assert second.exit_code == BLOCKED
    assert second.held == {"d003": ["still_held"]}
    checks = checks_of(instance)
    assert not checks["exports/ingest_ledger held"].passed
    assert checks["marts/tier_summary reconciliation"].passed and checks["marts/classroom_flag plausible"].passed


@pytest.mark.slow
def test_the_past_is_rebuilt_beside_the_present(three_districts: tuple[Home, Run, Run], tmp_path: Path):
    home, (first, _), _ = three_districts
    last = max(row["recorded_at"] for load in first.loads.values() for row in load.rows)
    then = rebuild_as_of(home, ["d001"], last, tmp_path / "then")
    assert then.exit_code == DONE
    with connect(home.warehouse) as now, connect(tmp_path / "then/warehouse.duckdb") as past:
        query = "select * exclude (input_id) from projections.tier_placement where district_id = 'd001' order by all"
        assert past.execute(query).fetchall() == now.execute(query).fetchall()


@pytest.mark.slow
def test_a_held_school_year_keeps_its_last_good_version_and_is_told_until_it_is_good(
    tmp_path: Path, instance: dg.DagsterInstance
):
    home = home_of(tmp_path, a=POLICY)
    good = [f"s{number},x,4,2025-2026,fall,map_growth_math,2025-09-15,200" for number in range(3)]
    land(home, "a", "good.csv", scores(*good))
    assert Work(home).run(["a"]).exit_code == DONE
    strict = POLICY + '[quality]\nblocking = ["score_range"]\n'
    (home.policies / "a.toml").write_text(strict, "utf-8")
    land(home, "a", "bad.csv", scores("s9,x,4,2025-2026,fall,map_growth_math,2025-09-16,999"))
    for _ in range(2):
        outcome = run_graph(home, instance=instance)
        assert outcome.exit_code == BLOCKED and outcome.up_to_date == []
        assert outcome.held == {"a": ["2026: map_growth_math: score_range: fall"]}
        assert not checks_of(instance)["projections/screening_result plausible"].passed
    with connect(home.warehouse) as connection:
        (tests,) = connection.execute("select count(*) from projections.screening_result").fetchone() or (0,)
        failed = connection.execute("select rule from marts.data_quality where not is_passed").fetchall()
    assert (tests, failed) == (3, [("score_range: fall",)])
    (home.policies / "a.toml").write_text(POLICY, "utf-8")
    assert Work(home).run(["a"]).exit_code == DONE


@pytest.mark.slow
def test_one_district_of_several_is_one_run_for_it_alone(tmp_path: Path, instance: dg.DagsterInstance):
    home = home_of(tmp_path, a=POLICY, b=POLICY, c=POLICY)
    for district in "abc":
        land(home, district, "scores.csv", scores("s1,x,4,2025-2026,fall,unit_math,2025-09-15,12"))
    outcome = run_graph(home, ["a", "c"], instance=instance)
    assert sorted(outcome.loads) == ["a", "c"]
    ledger = dg.AssetKey(["exports", "ingest_ledger"])
    assert instance.get_materialized_partitions(ledger) == {"a", "c"}
    assert instance.get_runs(limit=1)[0].tags[ONLY] == "a,c"
    assert run_graph(home, ["nobody"], instance=instance).exit_code == NOTHING


def test_districts_of_a_run_are_those_between_the_ends_less_those_not_meant():
    known = ["b", "a", "c", "d"]
    assert run_tags(known, ["a", "b"]) == {RANGE_START: "b", RANGE_END: "a"}
    assert run_tags(known, ["d", "b"]) == {RANGE_START: "b", RANGE_END: "d", ONLY: "b,d"}
    assert districts_of(known, run_tags(known, ["d", "b"])) == ["b", "d"]
    assert districts_of(["c"], {}) == ["c"]


def test_errors_of_libraries_lose_their_cells_and_their_chain():
    with pytest.raises(PassFailed) as caught, told("loading"):
        pl.Series([SECRET_CELL]).cast(pl.Int64)
    assert SECRET_CELL not in str(caught.value) and "InvalidOperationError" in str(caught.value)
    assert caught.value.__suppress_context__ and not caught.value.transient


def test_a_bad_value_fails_its_check_and_is_not_shown():
    row = {
        "district_id": "d1",
        "school_year": "2026",
        "input_id": "i",
        "subject_key": "k",
        "benchmark_window": "fall",
        "need_level": SECRET_CELL,
        "tier": 9,
    }
    rows = conform(pl.LazyFrame([row]), TierPlacement).collect()
    quality = contract_results(rows, TierPlacement, rows.select("district_id", "school_year"))
    found = by_check(quality)
    (result,) = check_results(found, [("projections/tier_placement", "contract")], Path("reports"))
    assert not result.passed and result.severity == dg.AssetCheckSeverity.ERROR
    rules = {each.data["rule"] for each in result.metadata["what_failed"].records}
    assert any("need_level" in rule for rule in rules) and any("tier" in rule for rule in rules)
    assert SECRET_CELL not in repr(result)


def test_a_file_that_does_not_add_up_fails_reconciliation():
    counts = dict.fromkeys(("rejected", "out_of_scope", "erased", "duplicate_in_file"), 0)
    facts = dict.fromkeys(("facts_corrected", "facts_unchanged", "facts_empty", "facts_rejected"), 0)
    file = {"district_id": "d1", "layout": "a", "status": "loaded", "slots": 1, "parked": 1, **counts, **facts}
    ledger = pl.DataFrame(
        [
            {**file, "data_rows": 5, "parsed": 4, "facts_appended": 4},
            {**file, "data_rows": 5, "parsed": 3, "facts_appended": 4},
        ]
    )
    found = {rule: (passed, rows) for rule, passed, rows in balances(ledger).select("rule", "is_passed", "rows").rows()}
    assert found == {"every row has one outcome": (False, 1), "every fact slot is counted": (False, 1)}


def ticks(
    home: Home, instance: dg.DagsterInstance, cursor: str | None, times: int = 2
) -> tuple[list[dg.RunRequest], str]:
    """Runs asked for by so many ticks, and the cursor after them."""
    asked: list[dg.RunRequest] = []
    for _ in range(times):
        context = dg.build_sensor_context(instance=instance, cursor=cursor, resources={"work": Work(home)})
        result = landed_files(context)
        assert isinstance(result, dg.SensorResult)
        for request in result.dynamic_partitions_requests or ():
            instance.add_dynamic_partitions(request.partitions_def_name, request.partition_keys)
        asked += result.run_requests or []
        cursor = result.cursor
    return asked, str(cursor)


def test_files_that_rest_start_one_run_and_the_same_file_twice_starts_nothing(
    tmp_path: Path, instance: dg.DagsterInstance
):
    home = home_of(tmp_path, a=POLICY, b=POLICY, c=POLICY)
    land(home, "a", "scores.csv", scores("s1,x,4,2025-2026,fall,unit_math,2025-09-15,12"))
    land(home, "c", "scores.csv", scores("s1,x,4,2025-2026,fall,unit_math,2025-09-15,13"))
    asked, cursor = ticks(home, instance, None, times=1)
    assert asked == []
    (request,), cursor = ticks(home, instance, cursor, times=1)
    assert request.tags == {RANGE_START: "a", RANGE_END: "c", ONLY: "a,c"}
    assert ticks(home, instance, cursor)[0] == []

    assert run_graph(home, ["a", "c"], instance=instance).exit_code == DONE
    asked, cursor = ticks(home, instance, cursor, times=3)
    assert asked == []
    land(home, "a", "again.csv", scores("s1,x,4,2025-2026,fall,unit_math,2025-09-15,12"), seconds=1_770_000_000)
    asked, cursor = ticks(home, instance, cursor, times=3)
    assert asked == []
    land(home, "a", "other.csv", scores("s1,x,4,2025-2026,fall,unit_math,2025-09-15,14"))
    asked, cursor = ticks(home, instance, cursor, times=3)
    assert [each.tags for each in asked] == [{RANGE_START: "a", RANGE_END: "a"}]


def test_a_held_file_is_offered_again_when_the_policy_changes(tmp_path: Path, instance: dg.DagsterInstance):
    home = home_of(tmp_path, a=POLICY)
    land(home, "a", "unknown.csv", UNKNOWN_FILE)
    (first,), cursor = ticks(home, instance, None)
    assert run_graph(home, instance=instance).held == {"a": ["unknown_layout"]}
    asked, cursor = ticks(home, instance, cursor, times=3)
    assert asked == []
    (home.policies / "a.toml").write_text(POLICY + 'source = "Board decision"\n', "utf-8")
    (second,), cursor = ticks(home, instance, cursor, times=3)
    assert second.run_key != first.run_key


def test_a_district_without_a_policy_is_offered_once_and_again_with_one(tmp_path: Path, instance: dg.DagsterInstance):
    home = home_of(tmp_path, a=None)
    land(home, "a", "scores.csv", scores("s1,x,4,2025-2026,fall,unit_math,2025-09-15,12"))
    asked, cursor = ticks(home, instance, None, times=4)
    assert len(asked) == 1
    (home.policies / "a.toml").write_text(POLICY, "utf-8")
    asked, cursor = ticks(home, instance, cursor, times=4)
    assert len(asked) == 1


def test_a_file_whose_reading_keeps_breaking_is_not_offered_for_ever(tmp_path: Path):
    home = home_of(tmp_path, a=POLICY)
    land(home, "a", "scores.csv", scores("s1,x,4,2025-2026,fall,unit_math,2025-09-15,12"))
    seen = look(home, {}).seen
    offers = []
    for number in range(MOST_OFFERS + 3):
        found = look(home, remembered(cursor_of(seen)), last_run=f"run {number}")
        seen = found.seen
        offers.append(found.districts)
    assert offers == [["a"]] * MOST_OFFERS + [[]] * 3
    assert "scores" not in cursor_of(seen)


def test_every_night_all_districts_are_looked_at(tmp_path: Path):
    home = home_of(tmp_path, b=POLICY, a=POLICY)
    night = {"scheduled_execution_time": datetime(2026, 9, 1, 9, tzinfo=UTC)}
    with instance_of(home) as history:
        request = nightly(dg.build_schedule_context(history, resources={"work": Work(home)}, **night))
        none = Work(Home(tmp_path / "none"))
        nothing = nightly(dg.build_schedule_context(history, resources={"work": none}, **night))
    assert isinstance(request, dg.RunRequest)
    assert request.tags == {RANGE_START: "a", RANGE_END: "b"}
    assert isinstance(nothing, dg.SkipReason)


@pytest.mark.slow
def test_a_mart_that_does_not_add_up_is_told_until_it_does(tmp_path: Path, instance: dg.DagsterInstance):
    home = home_of(tmp_path, a=POLICY)
    land(home, "a", "scores.csv", scores("s1,x,4,2025-2026,fall,unit_math,2025-09-15,12"))
    assert run_graph(home, instance=instance).exit_code == DONE
    with connect(home.warehouse, read_only=False) as connection:
        connection.execute("update marts.tier_summary set students = students + 1")
    for _ in range(2):
        assert run_graph(home, instance=instance).exit_code == BLOCKED
        assert not checks_of(instance)["marts/tier_summary reconciliation"].passed
    home.warehouse.unlink()
    assert run_graph(home, instance=instance).exit_code == DONE


def test_a_run_in_dagster_own_job_needs_only_the_home(tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: Any):
    home = home_of(tmp_path, a=POLICY)
    land(home, "a", "scores.csv", scores("s1,x,4,2025-2026,fall,unit_math,2025-09-15,12"))
    monkeypatch.setenv("TIERLINE_HOME", str(home.root))
    instance.add_dynamic_partitions("district", ["a"])
    job = defs.resolve_job_def("update_districts")
    result = job.execute_in_process(instance=instance, partition_key="a")
    assert result.success and home.warehouse.exists()
    assert bring_up_to_date.op.name in {event.step_key for event in result.all_node_events}


GUARD = """
import socket, sys
def refuse(self, address, *_):
    if self.family != socket.AF_UNIX:
        sys.stderr.write(f"OUTSIDE CONNECTION {address}\\n")
        raise OSError("no outside connection")
socket.socket.connect = socket.socket.connect_ex = refuse
def unresolved(*_, **__):
    sys.stderr.write("OUTSIDE LOOKUP\\n")
    raise OSError("no look-up")
socket.getaddrinfo = unresolved
"""


def test_a_run_opens_no_outside_connection_and_tells_nobody(tmp_path: Path):
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard/sitecustomize.py").write_text(GUARD, "utf-8")
    home = home_of(tmp_path / "a home é", d001=POLICY)
    land(home, "d001", "scores.csv", scores("s1,x,4,2025-2026,fall,unit_math,2025-09-15,12"))
    code = (
        "import sys; from pathlib import Path; from pipelines.runs import run_graph; from warehouse.home import Home\n"
        "outcome = run_graph(Home(Path(sys.argv[1])))\n"
        "assert 'great_expectations' in sys.modules; sys.exit(outcome.exit_code)"
    )
    paths = f"{tmp_path / 'guard'}{os.pathsep}{GRAPH.parents[2]}"
    done = subprocess.run(
        [sys.executable, "-c", code, str(home.root)],
        env=os.environ | {"PYTHONPATH": paths, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "OUTSIDE" not in done.stderr, done.stderr
    assert done.returncode == DONE, done.stderr
    assert done.stdout == ""
    with instance_of(home) as history:
        assert not history.telemetry_enabled
        assert history.get_runs(limit=1)[0].status == dg.DagsterRunStatus.SUCCESS
    assert not (tmp_path / ".dagster").exists()


@pytest.mark.parametrize("character", "*?[%")
def test_a_home_that_dagster_would_not_find_is_refused(tmp_path: Path, character: str):
    with pytest.raises(HomeError, match="Move the home"):
        dagster_home(Home(tmp_path / f"a{character}b"))


def test_the_history_lives_below_the_home_whatever_its_name(tmp_path: Path):
    home = Home(tmp_path / 'with space: and "quotes" #')
    folder = dagster_home(home)
    with instance_of(home) as history:
        assert history.storage_directory().startswith(str(folder))
    text = _settings(folder)
    assert "base_dir: .dagster" not in text and text.count("base_dir:") == 5
