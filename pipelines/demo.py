"""A synthetic district of 8 schools, so that everything runs on a laptop: made, run, and told in twenty lines."""

from pathlib import Path

import duckdb

from pipelines.simulate import simulate
from warehouse.home import Home

STUDENTS = 3000
FLAGGED = "from marts.classroom_flag where level like '%CLASS%'"
POLICY = """\
# Policy of the synthetic district. Everything it leaves out takes the documented default.
time_zone = "America/Denver"
source = "Demo."
"""


def is_free(home: Home) -> bool:
    """Whether a home holds no district but the demo's: invented students never leave an append-only log again."""
    paths = [home.policies / f"{district}.toml" for district in home.districts()]
    return all(path.exists() and path.read_text("utf-8") == POLICY for path in paths)


def make_demo(home: Home, students: int = STUDENTS, seed: int = 1) -> list[str]:
    """Land a synthetic district's files and policy; returns the district ids."""
    home.make()
    made = simulate(home.landing, students=students, seed=seed)
    for each in made:
        path = home.policies / f"{each.id}.toml"
        if not path.exists():
            path.write_text(POLICY, "utf-8")
    return [each.id for each in made]


def findings(warehouse: Path, home: Home) -> list[str]:
    """What was found, in lines for a terminal: counts only."""
    with duckdb.connect(str(warehouse), read_only=True) as connection:

        def one(sql: str) -> tuple[object, ...]:
            return connection.execute(sql).fetchone() or ()

        files, rows, rejected, outside = one(
            "select count(*), sum(data_rows), sum(rejected), sum(out_of_scope)"
            " from log.ingest_ledger where status = 'loaded' and layout not in ('policy', 'statement')"
        )
        (held,) = one("select count(*) from log.ingest_ledger where status = 'held'")
        tests, chosen = one("select count(*), count(*) filter (is_chosen) from projections.screening_result")
        students, schools, classes = one(
            "select count(distinct subject_key), count(distinct school_id), count(distinct class_id)"
            " from projections.class_membership"
        )
        tiers = connection.execute(
            "select benchmark_window, count(*) filter (tier = 1), count(*) filter (tier = 2),"
            " count(*) filter (tier = 3), count(*) filter (tier is null)"
            " from projections.tier_placement group by 1"
            " order by min(list_position(['fall', 'winter', 'spring'], benchmark_window))"
        ).fetchall()
        levels = connection.execute(
            "select level, count(*) from projections.class_decision where benchmark_window = 'spring'"
            " and measure = 'map_growth_math' group by 1 order by 1"
        ).fetchall()
        cycles, overdue = one("select count(*), count(*) filter (state = 'overdue') from projections.cycle")
        responses = connection.execute(
            "select response, count(*) from projections.cycle_outcome group by 1 order by 1"
        ).fetchall()
        holding, checks = one("select count(*) filter (is_passed), count(*) from projections.quality_result")
    lines = [
        f"Files      {files} loaded, {held} held: {rows:,} rows, {rejected:,} rejected, {outside:,} of other subjects",
        f"Students   {students:,} in {classes} math classes of {schools} schools",
        f"Tests      {tests:,} math tests, {chosen:,} of them chosen for a window",
        *(
            f"Tiers      {window:<6} tier 1: {one_:,}   tier 2: {two:,}   tier 3: {three:,}   no tier: {none:,}"
            for window, one_, two, three, none in tiers
        ),
        f"Cycles     {cycles} intervention cycles, {overdue} overdue",
        "Responses  " + ", ".join(f"{response}: {count}" for response, count in responses),
        "Classes    spring, MAP Growth: " + ", ".join(f"{level}: {count}" for level, count in levels),
        f"Quality    {holding} of {checks} rules hold",
    ]
    at = home.root if home.root != Path("data").absolute() else Path("data")
    option = "" if at == Path("data") else f" --home {at}"
    return [
        *lines,
        "",
        "Look further:",
        f"  tierline status{option}",
        f"  tierline report{option}   # then open {at / 'reports' / 'd001' / 'index.html'}",
        f"  tierline explain class <class_id>{option}",
        f'  duckdb -readonly {at / "warehouse.duckdb"} "{FLAGGED}"',
        f"  tierline ui{option}",
    ]
