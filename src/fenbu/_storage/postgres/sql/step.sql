-- name: begin
-- A transactional step begins: nothing if the partition has changed hands since this node took it, which the
-- share lock keeps from happening until the transaction ends. With what an earlier attempt has left.
SELECT pg_current_xact_id()::text AS transaction, found.id IS NOT NULL AS done, value, value_bytes
FROM {schema}.partition LEFT JOIN {schema}.step_result AS found
    ON found.id = $3 AND found.run = $4 AND found.command = $5
WHERE partition.number = $1 AND partition.epoch = $2
FOR SHARE OF partition;

-- name: finish
-- Only in the transaction that began; not if another attempt, whose fate was not known, has committed meanwhile.
WITH inserted AS (
    INSERT INTO {schema}.step_result (id, run, command, value, value_bytes)
    SELECT $2, $3, $4, $5::text, $6::bytea WHERE pg_current_xact_id() = $1::text::xid8
    ON CONFLICT DO NOTHING RETURNING 1
)
SELECT EXISTS (SELECT FROM inserted) AS recorded, pg_current_xact_id() = $1::text::xid8 AS same;

-- name: guard
-- A node that stalls in the middle must not keep others from its partition for ever.
SELECT
    set_config('idle_in_transaction_session_timeout', $1, true),
    set_config('tcp_keepalives_idle', '4', true),
    set_config('tcp_keepalives_interval', '2', true),
    set_config('tcp_keepalives_count', '2', true),
    set_config('tcp_user_timeout', '8000', true);
