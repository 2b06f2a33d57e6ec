-- How many students are in each tier as of a day?
select
    district_id,
    school_year,
    benchmark_window,
    reference_on,
    school_id,
    grade,
    students,
    placed,
    untested,
    stale,
    tier_1,
    tier_2,
    tier_3,
    (tier_2 + tier_3) / nullif(placed, 0) as recommended_share,
    answers.wilson_low(tier_2 + tier_3, placed) as recommended_low,
    answers.wilson_high(tier_2 + tier_3, placed) as recommended_high
from marts.tier_summary
join answers.window_on(day)
    using (district_id, school_year, benchmark_window)
