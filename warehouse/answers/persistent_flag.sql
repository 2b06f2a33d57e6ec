-- Which classes are flagged in two windows in a row?
select
    district_id,
    school_year,
    benchmark_window,
    measure,
    school_id,
    grade,
    class_id,
    class_label,
    level,
    attention,
    tested,
    need_share,
    interval_low,
    interval_high,
    p_above,
    is_concordant
from marts.classroom_flag
where
    is_flagged
    and is_persistent
