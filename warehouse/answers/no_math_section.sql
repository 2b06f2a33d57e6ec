-- Which students have no math class on the roster?
select
    member.district_id,
    member.school_year,
    member.benchmark_window,
    member.school_id,
    member.grade,
    member.subject_key,
    coalesce(placed.status = 'tested', false) as is_tested,
    placed.tier
from projections.class_membership as member
left join projections.tier_placement as placed
    using (district_id, school_year, benchmark_window, subject_key)
where member.class_basis = 'no_math_section'
