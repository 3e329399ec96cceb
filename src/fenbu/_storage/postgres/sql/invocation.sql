-- name: columns
id, partition, handler, version, entity, key, args, created_at, sequence, parent, waiters, chain,
deadline_at, status, attempt, crashes, started_at, finished_at, wake_at, waiting, cancel_reason,
commands, result, failure, heartbeats, context, attributes, args_bytes, result_bytes

-- name: journal
-- A call's row, or an entry of a call's journal, in one snapshot and one answer.
SELECT {columns},
    NULL::text, NULL::integer, NULL::text, NULL::float8, NULL::integer, NULL::text, NULL::integer,
    NULL::float8, NULL::text, NULL::text, NULL::text, NULL::float8, NULL::text, NULL::bytea
FROM call
UNION ALL
SELECT
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    entry.id, position, kind, at, entry.command, name, entry.attempt, seconds, entry.status, value,
    entry.failure, retry_at, entry.commands, value_bytes
FROM call CROSS JOIN LATERAL (
    SELECT * FROM {schema}.entry WHERE entry.id = call.id OFFSET 0
) AS entry

-- name: load
WITH call AS MATERIALIZED (SELECT {columns} FROM {schema}.invocation WHERE id = ANY ($1::text[]))
{journal};

-- name: load_ready
WITH call AS MATERIALIZED (
    SELECT found.*
    FROM unnest($1::integer[], $2::bigint[]) AS wanted (number, after) CROSS JOIN LATERAL (
        SELECT {columns} FROM {schema}.invocation
        WHERE partition = wanted.number AND lane = 1 AND sequence > wanted.after
        ORDER BY sequence LIMIT $3
    ) AS found
)
{journal};

-- name: load_operations
WITH call AS MATERIALIZED (
    SELECT {columns} FROM {schema}.invocation
    WHERE entity = $1 AND key = $2 AND sequence > $3 AND lane = 1
    ORDER BY sequence LIMIT $4
)
{journal};

-- name: load_due
WITH call AS MATERIALIZED (
    SELECT {columns} FROM {schema}.invocation
    WHERE lane = 2 AND wake_at IS NOT NULL AND wake_at <= $1 AND partition = ANY ($2::integer[])
    ORDER BY wake_at, id LIMIT $3
)
{journal};

-- name: next_due
-- Without those that are paused: their instants never come.
SELECT wake_at FROM {schema}.invocation
WHERE lane = 2 AND wake_at IS NOT NULL AND wake_at < 1e11 AND partition = ANY ($1::integer[])
ORDER BY wake_at LIMIT 1;

-- name: last_sequences
SELECT wanted.number, last.sequence
FROM unnest($1::integer[]) AS wanted (number) CROSS JOIN LATERAL (
    SELECT max(each.sequence) AS sequence
    FROM unnest('{1, 2, 3, 4, 5}'::smallint[]) AS kind (lane) CROSS JOIN LATERAL (
        SELECT sequence FROM {schema}.invocation
        WHERE partition = wanted.number AND lane = kind.lane AND lane <= 5
        ORDER BY sequence DESC LIMIT 1
    ) AS each
) AS last
WHERE last.sequence IS NOT NULL;

-- name: revive
-- One that nobody could run has lost its place to those behind it, which may have begun.
WITH parked AS MATERIALIZED (
    SELECT id, partition, sequence, status FROM {schema}.invocation
    WHERE lane BETWEEN 3 AND 5 AND lane IN (3, 5)
        AND handler = ANY ($1::text[]) AND partition = ANY ($2::integer[])
), places AS MATERIALIZED (
    SELECT id, last + row_number() OVER (PARTITION BY partition, status ORDER BY sequence) AS place
    FROM parked JOIN (
        SELECT partition, (
            SELECT max(sequence) FROM unnest('{1, 2, 3, 4, 5}'::smallint[]) AS kind (lane) CROSS JOIN LATERAL (
                SELECT max(sequence) AS sequence FROM {schema}.invocation
                WHERE partition = each.partition AND lane = kind.lane AND lane <= 5
            ) AS top
        ) AS last FROM (SELECT DISTINCT partition FROM parked) AS each
    ) AS ends USING (partition)
)
UPDATE {schema}.invocation AS call SET
    status = CASE WHEN started_at IS NULL THEN 'pending' ELSE 'running' END,
    sequence = CASE status WHEN 'unhandled' THEN place ELSE sequence END,
    waiting = NULL,
    failure = NULL
FROM places
WHERE call.id = places.id;

-- name: outcomes
-- The calls that are still in the inbox come last, without a status.
-- One text with a line for each id, which no id has in it: the driver looks at each element of an array.
SELECT id, status, result, result_bytes, failure, partition FROM {schema}.invocation
WHERE id = ANY (string_to_array($1::text, E'\n'))
UNION ALL
(
    SELECT call_id, NULL, NULL, NULL, NULL, partition FROM {schema}.inbox
    WHERE call_id = ANY (string_to_array($1::text, E'\n')) AND call_id IS NOT NULL ORDER BY call_id, number
);

-- name: places
-- The last one of an id counts: that of its row, if it has one, wherever another start of it was sent. Only calls without
-- an entity can have gone elsewhere since they were accepted.
SELECT id, partition, is_there FROM (
    SELECT call_id AS id, partition, true AS is_there, number FROM {schema}.inbox
    WHERE call_id = ANY ($1::text[]) AND call_id IS NOT NULL
    UNION ALL
    SELECT id, partition, entity IS NOT NULL, NULL FROM {schema}.invocation WHERE id = ANY ($1::text[])
) AS each
ORDER BY number NULLS LAST;

-- name: rewrite
UPDATE {schema}.invocation SET
    args = $2, args_bytes = $3, result = $4, result_bytes = $5, failure = $6, waiting = $7, cancel_reason = $8,
    heartbeats = $9
WHERE id = $1
    AND args IS NOT DISTINCT FROM $10::text AND args_bytes IS NOT DISTINCT FROM $11::bytea
    AND result IS NOT DISTINCT FROM $12::text AND result_bytes IS NOT DISTINCT FROM $13::bytea
    AND failure IS NOT DISTINCT FROM $14::text AND waiting IS NOT DISTINCT FROM $15::text
    AND cancel_reason IS NOT DISTINCT FROM $16::text AND heartbeats IS NOT DISTINCT FROM $17::text;

-- name: rewrite_entry
UPDATE {schema}.entry SET name = $3, value = $4, value_bytes = $5, failure = $6
WHERE id = $1 AND position = $2
    AND name IS NOT DISTINCT FROM $7::text
    AND value IS NOT DISTINCT FROM $8::text AND value_bytes IS NOT DISTINCT FROM $9::bytea
    AND failure IS NOT DISTINCT FROM $10::text;

-- name: delete_finished
-- Without a call whose row somebody else is changing at this moment.
WITH found AS MATERIALIZED (
    SELECT id FROM {schema}.invocation
    WHERE handler = $1 AND lane >= 6 AND finished_at < $2
    ORDER BY finished_at, id LIMIT $3 FOR UPDATE SKIP LOCKED
), doomed AS MATERIALIZED (
    SELECT chunk.id, chunk.number FROM found CROSS JOIN LATERAL (
        SELECT id, number FROM {schema}.chunk WHERE chunk.id = found.id LIMIT $4
    ) AS chunk
    LIMIT $4
), chunks AS (
    DELETE FROM {schema}.chunk USING doomed WHERE chunk.number = doomed.number
), expired AS MATERIALIZED (
    -- Without those that have chunks left, of which there are none if these were all.
    SELECT id FROM found
    WHERE (SELECT count(*) FROM doomed) < $4 OR NOT EXISTS (
        SELECT FROM {schema}.chunk WHERE chunk.id = found.id
        AND chunk.number NOT IN (SELECT number FROM doomed)
    )
), journal AS (
    DELETE FROM {schema}.entry USING expired WHERE entry.id = expired.id
), call AS (
    DELETE FROM {schema}.invocation USING expired WHERE invocation.id = expired.id RETURNING 1
), orphan AS (
    -- Of steps that were given up in the middle of their commit. There are few rows, and seldom one of these.
    DELETE FROM {schema}.step_result
    WHERE NOT EXISTS (SELECT FROM {schema}.invocation WHERE invocation.id = step_result.id)
)
SELECT CASE WHEN (SELECT count(*) FROM found) > (SELECT count(*) FROM expired) THEN $3
ELSE (SELECT count(*) FROM call) END;

-- name: unhandled
SELECT id, partition FROM {schema}.invocation
WHERE lane BETWEEN 3 AND 5 AND lane = 5 AND entity IS NULL
    AND (handler, version) IN (SELECT * FROM unnest($1::text[], $2::integer[]))
    AND partition <> ALL ($3::integer[])
LIMIT $4;

-- name: list
SELECT {columns} FROM {schema}.invocation
WHERE ($1::text[] IS NULL OR status = ANY ($1))
    AND ($2::text IS NULL OR handler = $2)
    AND created_at > coalesce($3::float8, '-infinity')
    AND created_at < coalesce($4::float8, 'infinity')
    AND (created_at, id) < (coalesce($5::float8, 'infinity'), coalesce($6::text, ''))
ORDER BY created_at DESC, id DESC LIMIT $7;

-- name: list_where
-- Through the index of the first condition; the others are looked at for each call that it leads to.
WITH first AS MATERIALIZED (
    SELECT call_id FROM {schema}.attribute
    WHERE name = $8::text AND kind = $9::text
        AND ($10::text IS NULL OR number >= $10::text::numeric)
        AND ($11::text IS NULL OR number <= $11::text::numeric)
        AND ($12::text IS NULL OR text >= $12)
        AND ($13::text IS NULL OR text <= $13)
)
SELECT {columns} FROM first JOIN {schema}.invocation ON invocation.id = first.call_id
WHERE ($1::text[] IS NULL OR status = ANY ($1))
    AND ($2::text IS NULL OR handler = $2)
    AND created_at > coalesce($3::float8, '-infinity')
    AND created_at < coalesce($4::float8, 'infinity')
    AND (created_at, id) < (coalesce($5::float8, 'infinity'), coalesce($6::text, ''))
    AND NOT EXISTS (
        SELECT FROM json_to_recordset($14::text::json) AS wanted (
            name text, operator text, kind text, value text
        )
        WHERE NOT EXISTS (
            SELECT FROM {schema}.attribute AS own
            WHERE own.call_id = invocation.id AND own.name = wanted.name AND own.kind = wanted.kind
                AND CASE wanted.kind
                    WHEN 'text' THEN CASE wanted.operator
                        WHEN '=' THEN own.text = wanted.value COLLATE "C"
                        WHEN '<' THEN own.text < wanted.value COLLATE "C"
                        WHEN '<=' THEN own.text <= wanted.value COLLATE "C"
                        WHEN '>' THEN own.text > wanted.value COLLATE "C"
                        WHEN '>=' THEN own.text >= wanted.value COLLATE "C"
                    END
                    ELSE CASE wanted.operator
                        WHEN '=' THEN own.number = wanted.value::numeric
                        WHEN '<' THEN own.number < wanted.value::numeric
                        WHEN '<=' THEN own.number <= wanted.value::numeric
                        WHEN '>' THEN own.number > wanted.value::numeric
                        WHEN '>=' THEN own.number >= wanted.value::numeric
                    END
                END
        )
    )
ORDER BY created_at DESC, id DESC LIMIT $7;

-- name: find
SELECT {columns} FROM {schema}.invocation
WHERE id >= $1 AND id < $2 AND strpos(substr(id, length($1) + 1), '/') = 0
ORDER BY id LIMIT $3;

-- name: count
SELECT handler, status, count(*) FROM {schema}.invocation GROUP BY handler, status;

-- name: count_parked
SELECT status, count(*) FROM {schema}.invocation WHERE lane BETWEEN 3 AND 5 GROUP BY status ORDER BY status;

-- name: operations_before
SELECT {columns} FROM {schema}.invocation
WHERE entity = $1 AND key = $2 AND sequence < $3 AND lane <= 5
ORDER BY sequence LIMIT $4;

-- name: run_of
SELECT partition, attempt FROM {schema}.invocation WHERE id = $1;

-- name: awaited
-- The calls that addresses wait for, whose texts are in these ranges.
SELECT invocation.id
FROM unnest($1::text[], $2::text[]) AS address (first, until) CROSS JOIN LATERAL (
    SELECT id FROM {schema}.invocation
    WHERE parent >= address.first AND parent < address.until AND parent IS NOT NULL
) AS invocation
ORDER BY invocation.id COLLATE "C";

-- name: children
-- Those that it awaits, by the address in `parent`, and those that it started, by the ids derived from it.
WITH child AS (
    SELECT id FROM {schema}.invocation WHERE parent >= $1 AND parent < $2 AND parent IS NOT NULL
    UNION
    SELECT invocation.id
    FROM unnest($3::text[]) AS each (prefix) CROSS JOIN {schema}.invocation
    WHERE invocation.id >= (each.prefix || '0') COLLATE "C"
        AND invocation.id < (each.prefix || ':') COLLATE "C"
        AND strpos(substr(invocation.id, length(each.prefix) + 1), '/') = 0
)
SELECT {columns} FROM {schema}.invocation WHERE id IN (SELECT id FROM child)
ORDER BY created_at, id LIMIT $4;
