-- Which benchmark window is in force in each district on a day?
select
    district_id,
    school_year,
    benchmark_window,
    reference_on
from projections.window_rule
where
    (district_id, reference_on) in (
        select (district_id, max(reference_on))
        from projections.window_rule
        where reference_on <= cast(day as date)
        group by district_id
    )
