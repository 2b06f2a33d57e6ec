-- Students by the tiers of two windows in a row.
with turn as (
    select
        district_id,
        school_year,
        benchmark_window as from_window,
        lead(benchmark_window) over (
            partition by district_id, school_year
            order by list_position(['fall', 'winter', 'spring'], benchmark_window)
        ) as to_window
    from (select distinct district_id, school_year, benchmark_window from projections.tier_placement)
)

select
    district_id,
    school_year,
    turn.from_window,
    turn.to_window,
    later.school_id,
    later.grade,
    earlier.tier as from_tier,
    later.tier as to_tier,
    count(*) as students
from turn
join projections.tier_placement as earlier
    using (district_id, school_year)
join projections.tier_placement as later
    using (district_id, school_year, subject_key)
where
    earlier.benchmark_window = turn.from_window
    and later.benchmark_window = turn.to_window
group by all
order by all
