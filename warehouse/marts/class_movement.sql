-- What became of a school's students from one window to the next.
with turn as (
    select
        district_id,
        school_year,
        benchmark_window as from_window,
        lead(benchmark_window) over (
            partition by district_id, school_year
            order by list_position(['fall', 'winter', 'spring'], benchmark_window)
        ) as to_window
    from (select distinct district_id, school_year, benchmark_window from projections.class_membership)
),

begun as (
    select
        district_id,
        school_year,
        turn.from_window,
        turn.to_window,
        earlier.school_id,
        earlier.class_id,
        earlier.subject_key
    from projections.class_membership as earlier
    join turn
        using (district_id, school_year)
    where
        earlier.benchmark_window = turn.from_window
        and turn.to_window is not null
        and earlier.class_id is not null
        and earlier.school_id is not null
),

became as (
    select
        begun.*,
        case
            when later.subject_key is null then 'left_roster'
            when later.class_id = begun.class_id then 'same_class'
            when later.school_id <> begun.school_id then 'other_school'
            when later.class_id is null then 'no_class'
            else 'other_class'
        end as state
    from begun
    left join projections.class_membership as later
        on begun.district_id = later.district_id
        and begun.school_year = later.school_year
        and begun.subject_key = later.subject_key
        and begun.to_window = later.benchmark_window
)

select
    district_id,
    school_year,
    from_window,
    to_window,
    school_id,
    count(*) as students,
    count(*) filter (state = 'same_class') as same_class,
    count(*) filter (state = 'other_class') as other_class,
    count(*) filter (state = 'other_school') as other_school,
    count(*) filter (state = 'no_class') as no_class,
    count(*) filter (state = 'left_roster') as left_roster
from became
group by all
order by district_id, school_year, from_window, to_window, school_id
