-- Where is need not served by any cycle?
with counted as (
    select
        district_id,
        school_year,
        benchmark_window,
        school_id,
        grade,
        count(*) as recommended,
        if(bool_or(is_served is null), null, count(*) filter (is_served)) as served,
        if(bool_or(is_served is null), null, count(*) filter (not is_served)) as unserved
    from marts.student_need
    group by all
)

select
    *,
    unserved / recommended as unserved_share,
    answers.wilson_low(unserved, recommended) as unserved_low,
    answers.wilson_high(unserved, recommended) as unserved_high
from counted
