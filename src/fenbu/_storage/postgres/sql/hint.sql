-- name: hint
-- One statement for all. Losing a hint costs nothing, so it need not wait for the disk, in any transaction.
SELECT set_config('synchronous_commit', 'off', true), pg_notify(channel, '')
FROM (
    SELECT $1 || node AS channel FROM {schema}.partition
    WHERE number = ANY ($2::integer[]) AND node IS NOT NULL
    UNION
    SELECT unnest($3::text[])
) AS receiver;
