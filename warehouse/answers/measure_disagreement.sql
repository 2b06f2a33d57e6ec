-- Of which students do two measures disagree?
select
    one.district_id,
    one.school_year,
    one.benchmark_window,
    one.subject_key,
    placed.school_id,
    placed.grade,
    one.measure,
    one.need_level,
    one.p_tier_2,
    other.measure as other_measure,
    other.need_level as other_need_level,
    other.p_tier_2 as other_p_tier_2,
    placed.tier
from projections.need_level as one
join projections.need_level as other
    on one.district_id = other.district_id
    and one.school_year = other.school_year
    and one.benchmark_window = other.benchmark_window
    and one.subject_key = other.subject_key
    and one.measure < other.measure
left join projections.tier_placement as placed
    on one.district_id = placed.district_id
    and one.school_year = placed.school_year
    and one.benchmark_window = placed.benchmark_window
    and one.subject_key = placed.subject_key
where (one.need_level in ('tier_2', 'tier_3')) <> (other.need_level in ('tier_2', 'tier_3'))
