-- Students by recommended tier.
select
    district_id,
    school_year,
    benchmark_window,
    school_id,
    grade,
    count(*) as students,
    count(tier) as placed,
    count(*) filter (status is distinct from 'tested') as untested,
    count(*) filter (is_stale) as stale,
    count(*) filter (tier = 1) as tier_1,
    count(*) filter (tier = 2) as tier_2,
    count(*) filter (tier = 3) as tier_3,
    count(*) filter (tier = 1) / nullif(count(tier), 0) as tier_1_share,
    count(*) filter (tier = 2) / nullif(count(tier), 0) as tier_2_share,
    count(*) filter (tier = 3) / nullif(count(tier), 0) as tier_3_share,
    count(*) filter (tier <> assigned_tier) as team_differs
from projections.tier_placement
group by all
order by all
