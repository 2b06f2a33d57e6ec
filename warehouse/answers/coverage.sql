-- What share of each school's students was tested?
select
    district_id,
    school_year,
    benchmark_window,
    school_id,
    enrolled,
    tested,
    coverage,
    answers.wilson_low(tested, enrolled) as coverage_low,
    answers.wilson_high(tested, enrolled) as coverage_high,
    is_system_data
from marts.school_signal
