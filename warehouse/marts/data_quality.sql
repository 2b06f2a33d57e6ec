-- Every quality rule beside the files it is about.
with file as (
    select
        district_id,
        layout,
        batch_id,
        arg_max(status, attempt) as status,
        arg_max(school_years, attempt) as school_years,
        coalesce(arg_min(data_rows, attempt) filter (status = 'loaded'), arg_max(data_rows, attempt)) as data_rows,
        sum(parsed) as parsed,
        sum(rejected) as rejected,
        sum(out_of_scope) as out_of_scope,
        arg_max(parked, attempt) as parked,
        sum(erased) as erased,
        sum(duplicate_in_file) as duplicate_in_file
    from log.ingest_ledger
    group by all
),

delivery as (
    select
        rule.district_id,
        rule.school_year,
        rule.about,
        count(*) as files,
        count(*) filter (file.status = 'held') as held_files,
        sum(data_rows) as data_rows,
        sum(parsed) as parsed,
        sum(rejected) as rejected,
        sum(out_of_scope) as out_of_scope,
        sum(parked) as parked,
        sum(erased) as erased,
        sum(duplicate_in_file) as duplicate_in_file
    from (select distinct district_id, school_year, about from projections.quality_result) as rule
    join file
        on rule.district_id = file.district_id
        and rule.about = file.layout
        and list_contains(string_split(file.school_years, ';'), rule.school_year)
    group by all
)

select
    rule.*,
    files,
    held_files,
    data_rows,
    parsed,
    rejected,
    out_of_scope,
    parked,
    erased,
    duplicate_in_file
from projections.quality_result as rule
left join delivery
    using (district_id, school_year, about)
order by district_id, school_year, school_id, stage, tool, about, rule.rule
