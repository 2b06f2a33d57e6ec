-- System signals of a school, each with its n; null where nothing was supplied.
select *
from projections.school_signal
order by district_id, school_year, benchmark_window, school_id
