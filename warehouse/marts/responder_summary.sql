-- Share of students who responded, where enough is concluded to show one.
select
    district_id,
    school_year,
    kind,
    name,
    tier,
    progression_place,
    cycles,
    abandoned_cycles,
    students,
    outcomes,
    concluded,
    open_outcomes + overdue_outcomes as still_open,
    dose_unknown,
    insufficient_dose,
    insufficient_data,
    case when withheld_reason is null then responder_share end as responder_share,
    case when withheld_reason is null then interval_low end as interval_low,
    case when withheld_reason is null then interval_high end as interval_high,
    case when withheld_reason is null then shrunk_share end as shrunk_share,
    case when withheld_reason is null then ended_share end as ended_share,
    is_comparable,
    withheld_reason
from projections.responder_rate
order by district_id, school_year, kind, progression_place nulls last, name, tier
