-- Students recommended tier 2 or 3, and whether a cycle served them.
with season as (
    select
        district_id,
        school_year,
        benchmark_window,
        -- a year's first window reaches back to its first day, which no cycle of the year precedes
        lag(reference_on) over turn as before_on,
        reference_on,
        lead(reference_on) over turn as next_on
    from projections.window_rule
    where
        reference_on is not null
        and (district_id, school_year, benchmark_window) in (
            select (district_id, school_year, benchmark_window)
            from projections.school_signal
            where enrolled is not null
        )
    window turn as (
        partition by district_id, school_year
        order by list_position(['fall', 'winter', 'spring'], benchmark_window)
    )
),

member as (
    select distinct
        district_id,
        school_year,
        benchmark_window,
        subject_key
    from projections.cycle_outcome as outcome
    join projections.cycle as cycle
        using (district_id, school_year, cycle_id)
    join season
        using (district_id, school_year)
    where
        outcome.school_id is not distinct from cycle.school_id
        and opened_on is not null
        and (next_on is null or opened_on < next_on)
        and (closed_on is null or before_on is null or closed_on >= reference_on)
        and (joined_on is null or next_on is null or joined_on < next_on)
        and (left_on is null or before_on is null or left_on >= reference_on)
),

alternate as (
    select
        district_id,
        school_year,
        benchmark_window,
        subject_key
    from projections.class_membership
    where is_alternate_assessment
)

select
    district_id,
    school_year,
    benchmark_window,
    placed.school_id,
    placed.grade,
    placed.class_id,
    subject_key,
    placed.tier,
    placed.assigned_tier,
    placed.measure,
    placed.is_stale,
    case when signal.served is not null then member.subject_key is not null end as is_served
from projections.tier_placement as placed
anti join alternate
    using (district_id, school_year, benchmark_window, subject_key)
left join projections.school_signal as signal
    using (district_id, school_year, benchmark_window, school_id)
left join member
    using (district_id, school_year, benchmark_window, subject_key)
where
    placed.tier in (2, 3)
    and placed.school_id is not null
order by district_id, school_year, benchmark_window, school_id, grade, subject_key
