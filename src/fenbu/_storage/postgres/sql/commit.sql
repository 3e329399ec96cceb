-- Parts of one statement: each is a data-modifying WITH query, and `finish` the end. Parameters are counted
-- within each part. `json` and not `jsonb`, because what is JSON inside a row, as `parent` is, must stay as
-- it is written. What is missing in a row has the default of its struct in `model.py`.

-- name: invocation_insert
INSERT INTO {schema}.invocation (
    id, partition, handler, version, entity, key, args, created_at, sequence, parent, waiters, chain,
    deadline_at, status, attempt, crashes, started_at, finished_at, wake_at, waiting, cancel_reason,
    commands, result, failure, heartbeats, context, attributes, args_bytes, result_bytes
)
SELECT
    id, partition, handler, coalesce(version, 1), entity, key,
    CASE WHEN args_bytes IS NULL THEN coalesce(args, '') END, coalesce(created_at, 0), coalesce(sequence, 0),
    parent, nullif(waiters, '[]'), nullif(chain, '[]'), deadline_at, coalesce(status, 'pending'),
    coalesce(attempt, 0), coalesce(crashes, 0), started_at, finished_at, wake_at, waiting, cancel_reason,
    commands, result, failure, nullif(heartbeats, '[]'), context, attributes,
    decode(args_bytes, 'base64'), decode(result_bytes, 'base64')
FROM json_to_recordset($1::text::json) AS new (
    id text, partition integer, handler text, version integer, entity text, key text, args text,
    created_at float8, sequence bigint, parent text, waiters text, chain text, deadline_at float8,
    status text, attempt integer, crashes integer, started_at float8, finished_at float8, wake_at float8,
    waiting text, cancel_reason text, commands text, result text, failure text,
    heartbeats text, context text, attributes text, args_bytes text, result_bytes text
)

-- name: invocation_update
UPDATE {schema}.invocation SET
    partition = new.partition,
    sequence = new.sequence,
    waiters = nullif(new.waiters, '[]'),
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
    heartbeats = nullif(new.heartbeats, '[]'),
    attributes = new.attributes,
    result_bytes = decode(new.result_bytes, 'base64')
FROM json_to_recordset($1::text::json) AS new (
    id text, partition integer, sequence bigint, waiters text, deadline_at float8, status text, attempt integer,
    crashes integer, started_at float8, finished_at float8, wake_at float8, waiting text,
    cancel_reason text, commands text, result text, failure text, heartbeats text, attributes text,
    result_bytes text
)
WHERE invocation.id = new.id

-- name: invocation_delete
DELETE FROM {schema}.invocation WHERE id = ANY ($1::text[])

-- name: entry_insert
INSERT INTO {schema}.entry (
    id, position, kind, at, command, name, attempt, seconds, status, value, failure, retry_at, commands,
    value_bytes
)
SELECT
    id, position, kind, at, coalesce(command, 0), name, coalesce(attempt, 0), seconds, status, value, failure,
    retry_at, commands,
    decode(value_bytes, 'base64')
FROM json_to_recordset($1::text::json) AS new (
    id text, position integer, kind text, at float8, command integer, name text, attempt integer,
    seconds float8, status text, value text, failure text, retry_at float8, commands text,
    value_bytes text
)

-- name: entry_delete
DELETE FROM {schema}.entry WHERE id = ANY ($1::text[])

-- name: entity_upsert
INSERT INTO {schema}.entity (
    entity, key, partition, state, version, changed_at, alarms, expires_at, fields, state_bytes
)
SELECT
    entity, key, partition, state, version, changed_at, alarms, expires_at, fields, decode(state_bytes, 'base64')
FROM json_to_recordset($1::text::json) AS new (
    entity text, key text, partition integer, state text, version integer, changed_at float8,
    alarms text, expires_at float8, fields text, state_bytes text
)
ON CONFLICT (entity, key) DO UPDATE SET
    state = excluded.state,
    version = excluded.version,
    changed_at = excluded.changed_at,
    alarms = excluded.alarms,
    expires_at = excluded.expires_at,
    fields = excluded.fields,
    state_bytes = excluded.state_bytes

-- name: entity_delete
DELETE FROM {schema}.entity USING unnest($1::text[], $2::text[]) AS old (entity, key)
WHERE entity.entity = old.entity AND entity.key = old.key

-- name: field_upsert
INSERT INTO {schema}.entity_field (entity, key, name, value, value_bytes)
SELECT entity, key, name, value, decode(value_bytes, 'base64')
FROM json_to_recordset($1::text::json) AS new (
    entity text, key text, name text, value text, value_bytes text
)
ON CONFLICT (entity, key, name) DO UPDATE SET value = excluded.value, value_bytes = excluded.value_bytes

-- name: field_delete
DELETE FROM {schema}.entity_field USING unnest($1::text[], $2::text[], $3::text[]) AS old (entity, key, name)
WHERE entity_field.entity = old.entity AND entity_field.key = old.key AND entity_field.name = old.name

-- name: inbox_insert
INSERT INTO {schema}.inbox (partition, call_id, message, message_bytes)
SELECT * FROM unnest($1::integer[], $2::text[], $3::text[], $4::bytea[])

-- name: inbox_delete
DELETE FROM {schema}.inbox WHERE number = ANY ($1::bigint[])

-- name: chunk_insert
INSERT INTO {schema}.chunk (id, stream, run, command, position, at, value, ends, value_bytes)
SELECT id, stream, run, command, position, at, value, ends, decode(value_bytes, 'base64')
FROM json_to_recordset($1::text::json) AS new (
    id text, stream text, run integer, command integer, position integer, at float8, value text, ends boolean,
    value_bytes text
)
ON CONFLICT (id, stream, run, command, position) DO NOTHING

-- name: chunk_delete
DELETE FROM {schema}.chunk WHERE id = ANY ($1::text[])

-- name: step_result_delete
DELETE FROM {schema}.step_result USING unnest($1::text[], $2::text[], $3::integer[]) AS old (id, run, command)
WHERE step_result.id = old.id AND step_result.run = old.run AND step_result.command = old.command

-- name: finish
-- Division by zero if this is not the session that holds the locks, whatever stands between us.
SELECT 1 / (pg_backend_pid() = $1)::integer
