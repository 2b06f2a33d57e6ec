-- Which students have a tier without a new test?
select
    district_id,
    school_year,
    benchmark_window,
    school_id,
    grade,
    class_id,
    subject_key,
    tier,
    status,
    windows_without_test
from projections.tier_placement
where is_stale
