-- In which flagged classes did the need come with the students?
select
    district_id,
    school_year,
    benchmark_window,
    measure,
    school_id,
    grade,
    class_id,
    class_label,
    tested,
    need_share,
    interval_low,
    interval_high,
    matched,
    observed,
    expected,
    p_at_least,
    growth_excess
from marts.classroom_flag
where
    is_flagged
    and growth_excess in ('as_expected', 'fewer')
