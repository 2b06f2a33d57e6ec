-- What share of students responded, by intervention and by concept?
select *
from marts.responder_summary
