-- Intervention cycles, their delivery and what is known of their effect.
with delivered as (
    select
        district_id,
        school_year,
        school_id,
        intervention,
        count(*) as cycles,
        count(*) filter (state = 'open') as open_cycles,
        count(*) filter (state = 'overdue') as overdue_cycles,
        count(*) filter (state = 'closed') as closed_cycles,
        count(*) filter (state = 'abandoned') as abandoned_cycles,
        count(*) filter (is_group_plan_first) as group_plan_first_cycles,
        sum(planned_sessions) filter (planned_sessions > 0) as planned_sessions,
        sum(held_sessions) filter (planned_sessions > 0) as held_sessions
    from projections.cycle
    group by all
),

responded as (
    select
        district_id,
        school_year,
        cycle.school_id,
        intervention,
        count(distinct subject_key) as students,
        count(*) as outcomes,
        count(dose_share) as dose_known,
        favg(dose_share) as dose_share,
        count(*) filter (response = 'adequate') as adequate,
        count(*) filter (response = 'questionable') as questionable,
        count(*) filter (response = 'poor') as poor,
        count(*) filter (next_step = 'exit_or_regroup') as exit_or_regroup,
        count(*) filter (next_step = 'continue') as continue_plan,
        count(*) filter (next_step = 'intensify_one_element') as intensify_one_element,
        count(*) filter (next_step = 'change_intervention') as change_intervention,
        count(*) filter (next_step = 'change_group_plan') as change_group_plan,
        count(*) filter (next_step = 'fix_delivery') as fix_delivery,
        count(*) filter (response = 'dose_unknown') as dose_unknown,
        count(*) filter (response = 'insufficient_dose') as insufficient_dose,
        count(*) filter (response = 'insufficient_data') as insufficient_data
    from projections.cycle_outcome as outcome
    join projections.cycle as cycle
        using (district_id, school_year, cycle_id)
    where outcome.school_id is not distinct from cycle.school_id
    group by all
)

select
    delivered.district_id,
    delivered.school_year,
    delivered.school_id,
    delivered.intervention,
    cycles,
    open_cycles,
    overdue_cycles,
    closed_cycles,
    abandoned_cycles,
    planned_sessions,
    held_sessions,
    held_sessions / planned_sessions as delivery_share,
    coalesce(students, 0) as students,
    coalesce(outcomes, 0) as outcomes,
    coalesce(dose_known, 0) as dose_known,
    dose_share,
    coalesce(adequate + questionable + poor, 0) as concluded,
    coalesce(adequate, 0) as adequate,
    coalesce(questionable, 0) as questionable,
    coalesce(poor, 0) as poor,
    group_plan_first_cycles,
    coalesce(exit_or_regroup, 0) as exit_or_regroup,
    coalesce(continue_plan, 0) as continue_plan,
    coalesce(intensify_one_element, 0) as intensify_one_element,
    coalesce(change_intervention, 0) as change_intervention,
    coalesce(change_group_plan, 0) as change_group_plan,
    coalesce(fix_delivery, 0) as fix_delivery,
    coalesce(outcomes - adequate - questionable - poor, 0) as excluded,
    coalesce(dose_unknown, 0) as dose_unknown,
    coalesce(insufficient_dose, 0) as insufficient_dose,
    coalesce(insufficient_data, 0) as insufficient_data
from delivered
left join responded
    on delivered.district_id = responded.district_id
    and delivered.school_year = responded.school_year
    and delivered.school_id is not distinct from responded.school_id
    and delivered.intervention is not distinct from responded.intervention
order by 1, 2, 3, 4
