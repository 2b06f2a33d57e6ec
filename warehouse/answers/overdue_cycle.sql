-- Which cycles are past their planned end without a decision?
select
    district_id,
    school_year,
    school_id,
    cycle_id,
    group_id,
    tier,
    intervention,
    concept,
    opened_on,
    planned_end_on,
    members,
    planned_sessions,
    held_sessions
from projections.cycle
where state = 'overdue'
