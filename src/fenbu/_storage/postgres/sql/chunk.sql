-- name: load
-- What is known of each cursor's call, and the chunks after the cursor, in one snapshot and one answer.
WITH wanted AS MATERIALIZED (
    SELECT *
    FROM unnest($1::text[], $2::text[], $3::bigint[]) WITH ORDINALITY AS each (id, stream, after, place)
)
SELECT
    place, coalesce(invocation.status, 'pending') AS status,
    coalesce(invocation.partition, message.partition) AS partition,
    NULL::text, NULL::text, NULL::integer, NULL::integer, NULL::integer, NULL::float8, NULL::text,
    NULL::boolean, NULL::bigint, NULL::bytea
FROM wanted
LEFT JOIN {schema}.invocation ON invocation.id = wanted.id
LEFT JOIN LATERAL (
    SELECT inbox.partition FROM {schema}.inbox WHERE call_id = wanted.id AND call_id IS NOT NULL
    ORDER BY number LIMIT 1
) AS message ON true
WHERE invocation.id IS NOT NULL OR message.partition IS NOT NULL
UNION ALL
SELECT
    place, NULL, NULL, found.id, found.stream, run, command, position, at, value, ends, number, value_bytes
FROM wanted CROSS JOIN LATERAL (
    SELECT * FROM {schema}.chunk
    WHERE chunk.id = wanted.id AND chunk.stream = wanted.stream AND number > wanted.after
    ORDER BY number LIMIT $4
) AS found;

-- name: delete_oldest
WITH oldest AS MATERIALIZED (
    SELECT number FROM {schema}.chunk WHERE id = $1 AND stream = $2 ORDER BY number LIMIT $4
)
DELETE FROM {schema}.chunk USING oldest WHERE chunk.number = oldest.number AND at < $3;

-- name: last
SELECT number FROM {schema}.chunk
WHERE id = $1 AND stream = $2 AND at < coalesce($3::float8, 'infinity')
ORDER BY number DESC LIMIT 1;

-- name: streams
SELECT stream, count(*) FILTER (WHERE NOT ends), bool_or(ends), max(at) FROM {schema}.chunk WHERE id = $1
GROUP BY stream ORDER BY stream;

-- name: of_calls
SELECT id, stream, run, command, position, at, value, ends, number, value_bytes FROM {schema}.chunk
WHERE id = ANY ($1::text[]) ORDER BY number;

-- name: scan
SELECT id, stream, run, command, position, at, value, ends, number, value_bytes FROM {schema}.chunk
WHERE number > $1 ORDER BY number LIMIT $2;

-- name: rewrite
UPDATE {schema}.chunk SET value = $2, value_bytes = $3
WHERE number = $1 AND value IS NOT DISTINCT FROM $4::text AND value_bytes IS NOT DISTINCT FROM $5::bytea;
