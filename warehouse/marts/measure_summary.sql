-- Tests by measure and window, and how exact they are.
select
    district_id,
    school_year,
    benchmark_window,
    measure,
    count(*) as tests,
    count(*) filter (is_valid) as valid,
    count(*) filter (is_chosen) as chosen,
    count(percentile) filter (is_chosen) as with_percentile,
    round(favg(score) filter (is_chosen), 9) as mean_score,
    round(stddev_samp(score) filter (is_chosen), 9) as score_deviation,
    count(standard_error) filter (is_chosen and standard_error_unit = 'score') as score_errors,
    round(favg(standard_error) filter (is_chosen and standard_error_unit = 'score'), 9) as mean_standard_error,
    count(standard_error) filter (is_chosen and standard_error_unit = 'rasch') as rasch_errors,
    round(favg(standard_error) filter (is_chosen and standard_error_unit = 'rasch'), 9) as mean_rasch_standard_error
from projections.screening_result
group by all
order by district_id, school_year, benchmark_window, measure
