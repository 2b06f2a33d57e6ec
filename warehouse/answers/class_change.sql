-- How many students changed class within the year?
select
    *,
    (students - same_class) / students as moved_share,
    answers.wilson_low(students - same_class, students) as moved_low,
    answers.wilson_high(students - same_class, students) as moved_high
from marts.class_movement
