-- name: args
-- From where they are: in the row is their length if they stand apart.
CASE typeof(args)
    WHEN 'integer' THEN (SELECT value FROM large_args WHERE call_id = invocation.id) ELSE args
END

-- name: columns
id, partition, handler, version, entity, key, {args}, created_at, sequence, parent, waiters, chain,
deadline_at, status, attempt, crashes, started_at, finished_at, wake_at, waiting, cancel_reason,
commands, result, failure, heartbeats, context, attributes

-- name: insert
-- {rows} is filled up with rows that begin with -1, to a size whose statement is prepared already.
INSERT INTO invocation (
    id, partition, handler, version, entity, key, args, created_at, sequence, parent, waiters, chain,
    deadline_at, status, attempt, crashes, started_at, finished_at, wake_at, waiting, cancel_reason,
    commands, result, failure, heartbeats, context, attributes
) SELECT * FROM (VALUES {rows}) WHERE column1 <> -1;

-- name: insert_large_args
INSERT INTO large_args (call_id, value) SELECT * FROM (VALUES {rows}) WHERE column1 <> -1;

-- name: update
UPDATE invocation SET
    sequence = new.column2,
    waiters = new.column3,
    deadline_at = new.column4,
    status = new.column5,
    attempt = new.column6,
    crashes = new.column7,
    started_at = new.column8,
    finished_at = new.column9,
    wake_at = new.column10,
    waiting = new.column11,
    cancel_reason = new.column12,
    commands = new.column13,
    result = new.column14,
    failure = new.column15,
    partition = new.column16,
    heartbeats = new.column17,
    attributes = new.column18
FROM (VALUES {rows}) AS new
WHERE new.column1 <> -1 AND invocation.id = new.column1;

-- name: rewrite
UPDATE invocation SET
    args = :args,
    result = :result,
    failure = :failure,
    waiting = :waiting,
    cancel_reason = :cancel_reason,
    heartbeats = :heartbeats
WHERE id = :id AND {args} IS :old_args AND result IS :old_result AND failure IS :old_failure
    AND waiting IS :old_waiting AND cancel_reason IS :old_cancel_reason
    AND heartbeats IS :old_heartbeats;

-- name: delete
DELETE FROM invocation WHERE id IN (SELECT value FROM json_each(?));

-- name: load
SELECT {columns} FROM invocation WHERE id IN (SELECT value FROM json_each(?));

-- name: load_ready
-- For each partition the first sequence that is too far, by one step of `limit` rows in the index.
WITH wanted AS MATERIALIZED (
    SELECT
        CAST(cursor.key AS INTEGER) AS number,
        cursor.value AS after,
        coalesce((
            SELECT sequence FROM invocation INDEXED BY open_call
            WHERE partition = CAST(cursor.key AS INTEGER)
                AND (wake_at IS NULL AND status IN ('pending', 'running')) = 1
                AND sequence > cursor.value AND finished_at IS NULL
            ORDER BY sequence LIMIT 1 OFFSET :limit
        ), 9223372036854775807) AS until
    FROM json_each(:cursors) AS cursor
    ORDER BY number
)
SELECT {columns}
FROM wanted CROSS JOIN invocation INDEXED BY open_call
WHERE partition = wanted.number
    AND (wake_at IS NULL AND status IN ('pending', 'running')) = 1
    AND sequence > wanted.after AND sequence < wanted.until AND finished_at IS NULL
ORDER BY partition, sequence;

-- name: load_operations
SELECT {columns} FROM invocation INDEXED BY open_operation
WHERE entity = ? AND key = ? AND sequence > ? AND finished_at IS NULL
    AND wake_at IS NULL AND status IN ('pending', 'running')
ORDER BY sequence LIMIT ?;

-- name: load_due
SELECT {columns} FROM invocation INDEXED BY due_call
WHERE wake_at <= ? AND status IN ('pending', 'running', 'suspended')
    AND partition IN (SELECT value FROM json_each(?))
ORDER BY wake_at, id LIMIT ?;

-- name: next_due
SELECT wake_at FROM invocation INDEXED BY due_call
WHERE wake_at IS NOT NULL AND status IN ('pending', 'running', 'suspended')
    AND partition IN (SELECT value FROM json_each(?))
ORDER BY wake_at LIMIT 1;

-- name: last_sequences
WITH each (number) AS (SELECT value FROM json_each(?)), last (number, sequence) AS (
    SELECT number, max(coalesce((
        SELECT sequence FROM invocation INDEXED BY open_call
        WHERE partition = number AND (wake_at IS NULL AND status IN ('pending', 'running')) = 0
            AND finished_at IS NULL
        ORDER BY sequence DESC LIMIT 1
    ), -1), coalesce((
        SELECT sequence FROM invocation INDEXED BY open_call
        WHERE partition = number AND (wake_at IS NULL AND status IN ('pending', 'running')) = 1
            AND finished_at IS NULL
        ORDER BY sequence DESC LIMIT 1
    ), -1)) FROM each
)
SELECT number, sequence FROM last WHERE sequence >= 0;

-- name: revive
-- One that nobody could run has lost its place to those behind it, which may have begun.
UPDATE invocation SET
    status = CASE WHEN started_at IS NULL THEN 'pending' ELSE 'running' END,
    sequence = CASE status WHEN 'unhandled' THEN place ELSE sequence END,
    waiting = NULL,
    failure = NULL
FROM (
    WITH parked AS MATERIALIZED (
        SELECT id, partition, sequence AS number, status AS kind FROM invocation INDEXED BY parked_call
        WHERE status IN ('stuck', 'unhandled', 'quarantined')
            AND status <> 'quarantined' AND handler IN (SELECT value FROM json_each(?))
            AND partition IN (SELECT value FROM json_each(?))
    )
    SELECT id AS call_id, last + row_number() OVER (PARTITION BY partition, kind ORDER BY number) AS place
    FROM parked JOIN (
        SELECT partition, max(coalesce((
            SELECT max(sequence) FROM invocation INDEXED BY open_call
            WHERE invocation.partition = each.partition AND finished_at IS NULL
                AND (wake_at IS NULL AND status IN ('pending', 'running')) = 0
        ), -1), coalesce((
            SELECT max(sequence) FROM invocation INDEXED BY open_call
            WHERE invocation.partition = each.partition AND finished_at IS NULL
                AND (wake_at IS NULL AND status IN ('pending', 'running')) = 1
        ), -1)) AS last FROM (SELECT DISTINCT partition FROM parked) AS each
    ) USING (partition)
) AS places
WHERE id = call_id;

-- name: outcomes
SELECT id, status, result, failure, partition FROM invocation WHERE id IN (SELECT value FROM json_each(?));

-- name: statuses
SELECT id, status, partition FROM invocation WHERE id IN (SELECT value FROM json_each(?));

-- name: places
SELECT id, partition, entity IS NOT NULL FROM invocation WHERE id IN (SELECT value FROM json_each(?));

-- name: expired
SELECT id FROM invocation INDEXED BY finished_call
WHERE handler = ? AND finished_at < ? ORDER BY finished_at, id LIMIT ?;

-- name: unhandled
SELECT id, partition FROM invocation INDEXED BY parked_call
WHERE status IN ('stuck', 'unhandled', 'quarantined') AND status = 'unhandled' AND entity IS NULL
    AND (handler, version) IN (
        SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(:handlers)
    )
    AND partition NOT IN (SELECT value FROM json_each(:besides))
LIMIT :limit;

-- name: list
SELECT {columns} FROM invocation
WHERE (:statuses IS NULL OR status IN (SELECT value FROM json_each(:statuses)))
    AND (:handler IS NULL OR handler = :handler)
    AND created_at > coalesce(:created_after, -9e999)
    AND created_at < coalesce(:created_before, 9e999)
    AND (created_at, id) < (coalesce(:last_at, 9e999), coalesce(:last_id, ''))
ORDER BY created_at DESC, id DESC LIMIT :limit;

-- name: list_where
-- Through the index of the first condition; the others are looked at for each call that it leads to.
SELECT {columns} FROM attribute AS first CROSS JOIN invocation ON invocation.id = first.call_id
WHERE first.name = :name AND first.kind = :kind AND first.value >= :low AND first.value <= :high
    AND (:statuses IS NULL OR status IN (SELECT value FROM json_each(:statuses)))
    AND (:handler IS NULL OR handler = :handler)
    AND created_at > coalesce(:created_after, -9e999)
    AND created_at < coalesce(:created_before, 9e999)
    AND (created_at, id) < (coalesce(:last_at, 9e999), coalesce(:last_id, ''))
    AND NOT EXISTS (
        SELECT 1 FROM json_each(:conditions) AS wanted WHERE NOT EXISTS (
            SELECT 1 FROM attribute
            WHERE call_id = invocation.id AND name = json_extract(wanted.value, '$.name')
                AND attribute.kind = json_extract(wanted.value, '$.kind')
                AND CASE json_extract(wanted.value, '$.operator')
                    WHEN '=' THEN attribute.value = json_extract(wanted.value, '$.value')
                    WHEN '<' THEN attribute.value < json_extract(wanted.value, '$.value')
                    WHEN '<=' THEN attribute.value <= json_extract(wanted.value, '$.value')
                    WHEN '>' THEN attribute.value > json_extract(wanted.value, '$.value')
                    WHEN '>=' THEN attribute.value >= json_extract(wanted.value, '$.value')
                END
        )
    )
ORDER BY created_at DESC, id DESC LIMIT :limit;

-- name: find
SELECT {columns} FROM invocation
WHERE id >= :beginning AND id < :until AND instr(substr(id, length(:beginning) + 1), '/') = 0
ORDER BY id LIMIT :limit;

-- name: count
SELECT handler, status, count(*) FROM invocation INDEXED BY finished_call
WHERE finished_at IS NOT NULL GROUP BY handler, status
UNION ALL
SELECT handler, status, count(*) FROM invocation INDEXED BY open_call
WHERE finished_at IS NULL GROUP BY handler, status;

-- name: count_parked
SELECT status, count(*) FROM invocation INDEXED BY parked_call
WHERE status IN ('stuck', 'unhandled', 'quarantined') GROUP BY status ORDER BY status;

-- name: operations_before
SELECT {columns} FROM invocation INDEXED BY open_operation
WHERE entity = ? AND key = ? AND sequence < ? AND finished_at IS NULL
ORDER BY sequence LIMIT ?;

-- name: run_of
SELECT partition, attempt FROM invocation WHERE id = ?;

-- name: awaited
-- The calls that these addresses wait for; each is [first, first that is too far].
SELECT invocation.id FROM json_each(?) AS address CROSS JOIN invocation INDEXED BY child_call
WHERE invocation.parent >= json_extract(address.value, '$[0]')
    AND invocation.parent < json_extract(address.value, '$[1]') AND invocation.parent IS NOT NULL
ORDER BY invocation.id;

-- name: children
-- Those that it awaits, by the address in `parent`, and those that it started, by the ids derived from it.
WITH child (id) AS (
    SELECT id FROM invocation INDEXED BY child_call
    WHERE parent >= :awaited_from AND parent < :awaited_until
    UNION
    SELECT invocation.id FROM json_each(:prefixes) AS prefix CROSS JOIN invocation
    WHERE invocation.id >= prefix.value || '0' AND invocation.id < prefix.value || ':'
        AND instr(substr(invocation.id, length(prefix.value) + 1), '/') = 0
)
SELECT {columns} FROM invocation WHERE id IN (SELECT id FROM child)
ORDER BY created_at, id LIMIT :limit;
