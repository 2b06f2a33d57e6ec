-- How did students move between tiers from one window to the next?
with counted as (
    select
        district_id,
        school_year,
        from_window,
        to_window,
        from_tier,
        to_tier,
        cast(sum(students) as bigint) as students
    from marts.tier_movement
    group by all
),

shared as (
    select
        *,
        cast(sum(students) over (partition by district_id, school_year, from_window, from_tier) as bigint) as from_students
    from counted
)

select
    *,
    students / from_students as share,
    answers.wilson_low(students, from_students) as share_low,
    answers.wilson_high(students, from_students) as share_high
from shared
