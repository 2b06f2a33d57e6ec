-- Of which students do two measures disagree?
with below as (
    select *
    from projections.need_level
    where need_level in ('tier_2', 'tier_3')
),

above as (
    select *
    from projections.need_level
    where need_level not in ('tier_2', 'tier_3')
)

select
    district_id,
    school_year,
    benchmark_window,
    subject_key,
    placed.school_id,
    placed.grade,
    if(below.measure < above.measure, below.measure, above.measure) as measure,
    if(below.measure < above.measure, below.need_level, above.need_level) as need_level,
    if(below.measure < above.measure, below.p_tier_2, above.p_tier_2) as p_tier_2,
    if(below.measure < above.measure, above.measure, below.measure) as other_measure,
    if(below.measure < above.measure, above.need_level, below.need_level) as other_need_level,
    if(below.measure < above.measure, above.p_tier_2, below.p_tier_2) as other_p_tier_2,
    placed.tier
from below
join above
    using (district_id, school_year, benchmark_window, subject_key)
left join projections.tier_placement as placed
    using (district_id, school_year, benchmark_window, subject_key)
