-- What became of each file, how late was it, and how many of its students did the roster know?
select
    district_id,
    arg_max(file, attempt) as file,
    arg_max(layout, attempt) as layout,
    batch_id,
    arg_max(status, attempt) as status,
    arg_max_null(held_rule, attempt) as held_rule,
    arg_max(export_at, attempt) as export_at,
    max(recorded_at) as recorded_at,
    date_diff(
        'day',
        arg_max(export_at, attempt),
        min(recorded_at) filter (status = 'loaded')
    ) as days_to_load,
    count(*) as attempts,
    coalesce(arg_min(data_rows, attempt) filter (status = 'loaded'), arg_max(data_rows, attempt)) as data_rows,
    cast(sum(parsed) as bigint) as parsed,
    cast(sum(rejected) as bigint) as rejected,
    cast(sum(out_of_scope) as bigint) as out_of_scope,
    arg_max(parked, attempt) as parked,
    cast(sum(erased) as bigint) as erased,
    cast(sum(duplicate_in_file) as bigint) as duplicate_in_file,
    sum(rejected)
    / nullif(coalesce(arg_min(data_rows, attempt) filter (status = 'loaded'), arg_max(data_rows, attempt)), 0)
        as rejected_share,
    arg_max(match_rate, attempt) as match_rate
from log.ingest_ledger
group by district_id, batch_id
