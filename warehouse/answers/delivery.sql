-- How much of what was planned was delivered?
select
    district_id,
    school_year,
    school_id,
    intervention,
    cycles,
    planned_sessions,
    held_sessions,
    delivery_share,
    outcomes,
    dose_known,
    dose_share,
    insufficient_dose
from marts.cycle_summary
