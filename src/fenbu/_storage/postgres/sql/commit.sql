-- Parts of one statement: each is a data-modifying WITH query, and `finish` the end. Parameters are counted
-- within each part.

-- name: invocation_insert
INSERT INTO {schema}.invocation (
    id, partition, handler, version, entity, key, args, created_at, sequence, parent, waiters, chain,
    deadline_at, status, attempt, crashes, started_at, finished_at, wake_at, waiting, cancel_reason,
    commands, result, failure, args_bytes, result_bytes
)
SELECT * FROM unnest(
    $1::text[], $2::integer[], $3::text[], $4::integer[], $5::text[], $6::text[], $7::text[], $8::float8[],
    $9::bigint[], $10::text[], $11::text[], $12::text[], $13::float8[], $14::text[], $15::integer[],
    $16::integer[], $17::float8[], $18::float8[], $19::float8[], $20::text[], $21::text[], $22::text[],
    $23::text[], $24::text[], $25::bytea[], $26::bytea[]
)

-- name: invocation_update
UPDATE {schema}.invocation SET
    sequence = new.sequence,
    waiters = new.waiters,
    deadline_at = new.deadline_at,
    status = new.status,
    attempt = new.attempt,
    crashes = new.crashes,
    started_at = new.started_at,
    finished_at = new.finished_at,
    wake_at = new.wake_at,
    waiting = new.waiting,
    cancel_reason = new.cancel_reason,
    commands = new.commands,
    result = new.result,
    failure = new.failure,
    result_bytes = new.result_bytes
FROM unnest(
    $1::text[], $2::bigint[], $3::text[], $4::float8[], $5::text[], $6::integer[], $7::integer[],
    $8::float8[], $9::float8[], $10::float8[], $11::text[], $12::text[], $13::text[], $14::text[],
    $15::text[], $16::bytea[]
) AS new (
    id, sequence, waiters, deadline_at, status, attempt, crashes, started_at, finished_at, wake_at,
    waiting, cancel_reason, commands, result, failure, result_bytes
)
WHERE invocation.id = new.id

-- name: invocation_delete
DELETE FROM {schema}.invocation WHERE id = ANY ($1::text[])

-- name: entry_insert
INSERT INTO {schema}.entry (
    id, position, kind, at, command, name, attempt, seconds, status, value, failure, retry_at, commands,
    value_bytes
)
SELECT * FROM unnest(
    $1::text[], $2::integer[], $3::text[], $4::float8[], $5::integer[], $6::text[], $7::integer[],
    $8::float8[], $9::text[], $10::text[], $11::text[], $12::float8[], $13::text[], $14::bytea[]
)

-- name: entry_delete
DELETE FROM {schema}.entry WHERE id = ANY ($1::text[])

-- name: entity_upsert
INSERT INTO {schema}.entity (entity, key, partition, state, version, changed_at, state_bytes)
SELECT * FROM unnest(
    $1::text[], $2::text[], $3::integer[], $4::text[], $5::integer[], $6::float8[], $7::bytea[]
)
ON CONFLICT (entity, key) DO UPDATE SET
    state = excluded.state,
    version = excluded.version,
    changed_at = excluded.changed_at,
    state_bytes = excluded.state_bytes

-- name: entity_delete
DELETE FROM {schema}.entity USING unnest($1::text[], $2::text[]) AS old (entity, key)
WHERE entity.entity = old.entity AND entity.key = old.key

-- name: inbox_insert
INSERT INTO {schema}.inbox (partition, call_id, message, message_bytes)
SELECT * FROM unnest($1::integer[], $2::text[], $3::text[], $4::bytea[])

-- name: inbox_delete
DELETE FROM {schema}.inbox WHERE number = ANY ($1::bigint[])

-- name: finish
-- Division by zero if this is not the session that holds the locks, whatever stands between us.
SELECT 1 / (pg_backend_pid() = $1)::integer
