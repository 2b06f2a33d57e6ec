-- Which classes are flagged as of a day?
select
    district_id,
    school_year,
    benchmark_window,
    reference_on,
    measure,
    school_id,
    grade,
    class_id,
    class_label,
    level,
    attention,
    severity,
    enrolled,
    tested,
    coverage,
    in_need,
    need_share,
    interval_low,
    interval_high,
    p_above,
    tau,
    reason
from marts.classroom_flag
join answers.window_on(day)
    using (district_id, school_year, benchmark_window)
where is_flagged
