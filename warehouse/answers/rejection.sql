-- Which rows of a file could not be read, and by which rule?
select
    broken.district_id,
    read.file,
    read.layout,
    broken.batch_id,
    broken."column",
    broken.rule,
    count(distinct broken.source_line) as rows,
    min(broken.source_line) as first_line
from log.rejected_row as broken
left join log.ingest_ledger as read
    using (batch_id, attempt)
group by all
