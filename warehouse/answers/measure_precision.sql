-- How many tests of each measure are there, and how exact are they?
select *
from marts.measure_summary
