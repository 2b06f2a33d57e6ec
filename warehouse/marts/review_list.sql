-- Referred students, whatever the screener says, with what it says beside.
with placed as (
    select
        district_id,
        school_year,
        subject_key,
        arg_max(tier_placement, list_position(['fall', 'winter', 'spring'], benchmark_window)) as latest
    from projections.tier_placement
    group by all
)

select
    district_id,
    school_year,
    coalesce(latest.school_id, referral.school_id) as school_id,
    latest.grade as grade,
    subject_key,
    natural_key,
    referred_on,
    referred_by,
    concern,
    latest.benchmark_window as benchmark_window,
    latest.status as status,
    latest.measure as measure,
    latest.need_level as need_level,
    latest.tier as tier,
    latest.is_stale as is_stale,
    latest.assigned_tier as assigned_tier
from projections.referral
left join placed using (district_id, school_year, subject_key)
order by all
