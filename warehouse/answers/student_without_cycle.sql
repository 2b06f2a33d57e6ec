-- Which students recommended tier 2 or 3 were in no cycle?
select
    district_id,
    school_year,
    benchmark_window,
    school_id,
    grade,
    class_id,
    subject_key,
    tier,
    assigned_tier,
    measure,
    is_stale
from marts.student_need
where not is_served
