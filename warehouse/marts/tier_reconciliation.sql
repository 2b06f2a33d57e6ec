-- Students whose team decided another tier than is recommended.
select
    district_id,
    school_year,
    benchmark_window,
    school_id,
    grade,
    subject_key,
    tier as recommended_tier,
    reference_on as recommended_on,
    reason as recommended_reason,
    confidence,
    is_stale,
    assigned_tier,
    tier_decided_by,
    assigned_on,
    assigned_on >= reference_on as is_decided_since
from projections.tier_placement
where tier <> assigned_tier
order by all
