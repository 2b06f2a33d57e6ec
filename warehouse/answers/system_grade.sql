-- In which grades of which schools is it the system before any one class?
with counted as (
    select
        district_id,
        school_year,
        benchmark_window,
        measure,
        school_id,
        grade,
        count(*) as classes,
        max(grade_tested) as grade_tested,
        max(grade_in_need) as grade_in_need,
        max(p_grade_above) as p_grade_above,
        max(grade_coverage) as grade_coverage,
        bool_or(is_district_wide) as is_district_wide,
        bool_or(is_grade_persistent) as is_grade_persistent
    from marts.classroom_flag
    where level in ('SYSTEM', 'SYSTEM+CLASSROOM')
    group by all
)

select
    district_id,
    school_year,
    benchmark_window,
    measure,
    school_id,
    grade,
    classes,
    grade_tested,
    grade_in_need,
    grade_in_need / nullif(grade_tested, 0) as grade_need_share,
    answers.wilson_low(grade_in_need, grade_tested) as grade_need_low,
    answers.wilson_high(grade_in_need, grade_tested) as grade_need_high,
    p_grade_above,
    grade_coverage,
    is_district_wide,
    is_grade_persistent
from counted
