-- How many progress-monitoring probes does each cycle have?
with counted as (
    select
        outcome.district_id,
        outcome.school_year,
        outcome.school_id,
        outcome.cycle_id,
        count(*) as students,
        count(*) filter (outcome.probes = 0) as without_probe,
        min(outcome.probes) as fewest_probes,
        median(outcome.probes) as median_probes,
        max(outcome.probes) as most_probes,
        count(*) filter (progress.slope_status = 'decision') as decision_slopes
    from projections.cycle_outcome as outcome
    left join projections.progress as progress
        on outcome.district_id = progress.district_id
        and outcome.school_year = progress.school_year
        and outcome.school_id is not distinct from progress.school_id
        and outcome.cycle_id = progress.cycle_id
        and outcome.subject_key = progress.subject_key
        and outcome.measure = progress.measure
    group by all
)

select
    cycle.district_id,
    cycle.school_year,
    cycle.school_id,
    cycle.cycle_id,
    cycle.state,
    cycle.measure,
    coalesce(students, 0) as students,
    coalesce(without_probe, 0) as without_probe,
    fewest_probes,
    median_probes,
    most_probes,
    coalesce(decision_slopes, 0) as decision_slopes,
    decision_slopes / students as decision_share,
    answers.wilson_low(decision_slopes, students) as decision_low,
    answers.wilson_high(decision_slopes, students) as decision_high
from projections.cycle as cycle
left join counted
    on cycle.district_id = counted.district_id
    and cycle.school_year = counted.school_year
    and cycle.school_id is not distinct from counted.school_id
    and cycle.cycle_id = counted.cycle_id
