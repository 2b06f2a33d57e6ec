"""A walk through a warehouse, to be opened with `tierline notebook`; reads the published file and nothing else."""

import marimo

app = marimo.App(width="medium", app_title="Tierline: a walk through the warehouse")


@app.cell
def _():
    import os
    from pathlib import Path

    import marimo as mo

    from warehouse.home import Home
    from warehouse.publish import ask

    warehouse = Home(Path(os.environ.get("TIERLINE_HOME", "data"))).warehouse

    def rows(sql, *values):
        """Rows of the warehouse."""
        found = ask(warehouse, sql, values)
        if found is None:
            raise FileNotFoundError(
                f"There is no {warehouse.name} yet. `tierline demo` or `tierline run` publishes it."
            )
        return found

    return mo, rows


@app.cell
def _(mo):
    mo.md("""
    # A walk through the warehouse

    Which files came, who is placed how, in which classes the answer is the student, the classroom or the system; then
    one class and one cycle in full, and what all this cannot say. Every table is read from `warehouse.duckdb`, which
    holds education records: do not pass on what you see here.
    """)
    return


@app.cell
def _(mo, rows):
    districts = rows("select distinct district_id from projections.window_rule order by 1")["district_id"].to_list()
    mo.stop(not districts, mo.md("The warehouse holds no district yet."))
    district_choice = mo.ui.dropdown(districts, value=districts[0], label="District")
    district_choice
    return (district_choice,)


@app.cell
def _(district_choice, rows):
    district = district_choice.value
    latest = rows(
        "select school_year, benchmark_window, reference_on from projections.window_rule where district_id = ?"
        " order by reference_on desc nulls last limit 1",
        district,
    ).row(0, named=True)
    place = (district, latest["school_year"], latest["benchmark_window"])
    return district, latest, place


@app.cell
def _(district, mo, rows):
    files = rows(
        "select file, layout, status, data_rows, parsed, rejected, out_of_scope, parked, match_rate"
        " from answers.file_outcome where district_id = ? order by all",
        district,
    )
    loaded = files.filter(status="loaded")
    mo.vstack(
        [
            mo.md(f"""
            ## What came

            {loaded.height} of {files.height} files were loaded, with {loaded["data_rows"].sum() or 0:,} rows;
            {loaded["rejected"].sum() or 0:,} of them could not be read. A file that is held waits for a person and
            nothing of it counts. `match_rate` is the share of the file's students whom the roster knows.
            """),
            mo.ui.table(files, selection=None),
        ]
    )
    return (files,)


@app.cell
def _(mo, place, rows):
    tiers = rows(
        "with counted as (select benchmark_window, sum(students)::bigint as students, sum(tier_1)::bigint as tier_1,"
        " sum(tier_2)::bigint as tier_2, sum(tier_3)::bigint as tier_3, sum(students - placed)::bigint as no_tier"
        " from marts.tier_summary where district_id = ? and school_year = ? group by all)"
        " select *, (tier_2 + tier_3) / nullif(students - no_tier, 0) as recommended_share,"
        " answers.wilson_low(tier_2 + tier_3, students - no_tier) as recommended_low,"
        " answers.wilson_high(tier_2 + tier_3, students - no_tier) as recommended_high from counted"
        " order by list_position(['fall', 'winter', 'spring'], benchmark_window)",
        *place[:2],
    )
    mo.vstack(
        [
            mo.md("""
            ## Who is placed how

            Tier 1 is core instruction, tier 2 a small group, tier 3 intensive support. These are recommendations; a
            team decides. The share of tier 2 and 3 stands with its 95 % interval.
            """),
            mo.ui.table(tiers, selection=None),
        ]
    )
    return (tiers,)


@app.cell
def _(latest, mo, place, rows):
    levels = rows(
        "select measure, level, count(*) as classes from marts.classroom_flag"
        " where district_id = ? and school_year = ? and benchmark_window = ? group by all order by all",
        *place,
    )
    flags = rows(
        "select school_id, class_label, measure, level, attention, in_need, tested, need_share, interval_low,"
        " interval_high, p_above, class_id from marts.classroom_flag where district_id = ? and school_year = ?"
        " and benchmark_window = ? and is_flagged order by school_id, class_id, measure",
        *place,
    )
    mo.vstack(
        [
            mo.md(f"""
            ## Which classes

            In the {latest["benchmark_window"]} window of {latest["school_year"]}. STUDENT: look at each student.
            CLASSROOM: whole-class instruction is worth a look. SYSTEM: the whole grade stands out before any one class.
            A flag is a reason to look, not a finding about a person.
            """),
            mo.ui.table(levels, selection=None),
            mo.ui.table(flags, selection=None),
        ]
    )
    return flags, levels


@app.cell
def _(flags, mo, place, rows):
    classes = rows(
        "select distinct class_id from marts.classroom_flag where district_id = ? and school_year = ?"
        " and benchmark_window = ? order by 1",
        *place,
    )["class_id"].to_list()
    mo.stop(not classes, mo.md("No class can be shown."))
    first = flags["class_id"][0] if flags.height else classes[0]
    class_choice = mo.ui.dropdown(classes, value=first, label="Class")
    mo.vstack([mo.md("## One class"), class_choice])
    return (class_choice,)


@app.cell
def _(class_choice, mo, place, rows):
    one_class = rows(
        "select measure, level, reason, context, enrolled, tested, in_need, need_share, interval_low, interval_high,"
        " prior, prior_from, prior_strength, posterior_mean, p_above, tau, grade_tested, grade_in_need, p_grade_above,"
        " matched, observed, expected, growth_excess, topics"
        " from marts.classroom_flag where district_id = ? and school_year = ? and benchmark_window = ? and class_id = ?"
        " order by measure",
        *place,
        class_choice.value,
    )
    said = "\n".join(
        f"- **{row['measure']}: {row['level']}.** {row['reason']} {row['context']}" for row in one_class.to_dicts()
    )
    mo.vstack(
        [
            mo.md(said),
            mo.md("`tierline explain class` goes on from here to each student's test and its line in the file."),
            mo.ui.table(one_class.drop("reason", "context"), selection=None),
        ]
    )
    return (one_class,)


@app.cell
def _(mo, place, rows):
    cycles = rows(
        "select school_id, cycle_id, intervention, concept, state, opened_on, planned_end_on, members,"
        " planned_sessions, held_sessions, delivery_share, adequate, questionable, poor, excluded"
        " from projections.cycle where district_id = ? and school_year = ? order by school_id, cycle_id",
        *place[:2],
    )
    mo.stop(cycles.is_empty(), mo.md("## One cycle\n\nThe district supplies no intervention cycles."))
    names = cycles["cycle_id"].unique().sort().to_list()
    cycle_choice = mo.ui.dropdown(names, value=names[0], label="Cycle")
    mo.vstack([mo.md("## One cycle"), cycle_choice])
    return cycle_choice, cycles


@app.cell
def _(cycle_choice, cycles, mo, place, rows):
    one_cycle = cycles.filter(cycle_id=cycle_choice.value)
    outcomes = rows(
        "select subject_key, baseline, goal_score, probes, slope, goal_slope, p_slope_at_least_goal, dose_share,"
        " response, reason, next_step from projections.cycle_outcome"
        " where district_id = ? and school_year = ? and cycle_id = ? order by subject_key",
        *place[:2],
        cycle_choice.value,
    )
    mo.vstack(
        [
            mo.md("""
            What was planned and held, and for each student the goal, the probes, how much of the planned time was
            attended (`dose_share`), what the cycle did (`response`) and what that asks for (`next_step`). Without
            enough time or probes there is no conclusion about the student.
            """),
            mo.ui.table(one_cycle, selection=None),
            mo.ui.table(outcomes, selection=None),
        ]
    )
    return one_cycle, outcomes


@app.cell
def _(mo, place, rows):
    limits = rows(
        "select count(*) filter (level in ('TOO_SMALL', 'LOW_COVERAGE', 'SYSTEM_DATA')) as classes_without_answer,"
        " count(*) as classes from marts.classroom_flag"
        " where district_id = ? and school_year = ? and benchmark_window = ?",
        *place,
    )
    unanswered, asked = limits.row(0)
    mo.md(f"""
    ## What this cannot say

    - {unanswered} of {asked} answers about a class are that there is too little data, or that data are to be mended.
    - A share from twenty students is uncertain: read the interval, not the share.
    - A class is not its teacher. Who arrived, what was taught before, curriculum and attendance all stand in the same
      numbers. Nothing here is for personnel evaluation.
    - Students of one intervention differ from those of another before either begins: a response rate does not say what
      works.
    - It shows what is known today. `tierline run --as-of DAY --out FOLDER` rebuilds what was known on a past day.

    Twenty questions with their SQL stand in `answers.question` and in docs/questions.md.
    """)
    return (limits,)


if __name__ == "__main__":
    app.run()
