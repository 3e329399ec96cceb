-- name: load
-- What a snapshot sees that an earlier one did not: from transactions that were under way then ($3), behind
-- the last row of the part before ($4, $5), or from those that began later, which come behind a row ($1, $2).
-- That bound is one: of two on the same columns the index may begin at the lower, and walk over all that was
-- read and deleted since the last vacuum. A reading of several parts sees no more than its first did ($6, $7).
-- `partition` is looked up in a byte for each, and no index, so that the rows come in order.
SELECT snapshot.text AS snapshot, found.*
FROM (VALUES (pg_current_snapshot()::text)) AS snapshot (text) LEFT JOIN LATERAL (
    SELECT * FROM (
        (
            SELECT tx::text, number, message, message_bytes, tx AS rank FROM {schema}.inbox
            WHERE tx = ANY ($3::text[]::xid8[]) AND (tx, number) > ($4::text::xid8, $5::bigint)
                AND ($6::text IS NULL OR pg_visible_in_snapshot(tx, $6::text::pg_snapshot))
                AND substr($8::bytea, partition + 1, 1) = '\x01'
            ORDER BY inbox.tx, number LIMIT $9
        )
        UNION ALL
        (
            SELECT tx::text, number, message, message_bytes, tx AS rank FROM {schema}.inbox
            WHERE (tx, number) > ($1::text::xid8, $2::bigint) AND tx < $7::text::xid8
                AND ($6::text IS NULL OR pg_visible_in_snapshot(tx, $6::text::pg_snapshot))
                AND substr($8::bytea, partition + 1, 1) = '\x01'
            ORDER BY inbox.tx, number LIMIT $9
        )
    ) AS each
    ORDER BY rank, number LIMIT $9
) AS found ON true;

-- name: insert
INSERT INTO {schema}.inbox (partition, call_id, message, message_bytes)
SELECT * FROM unnest($1::integer[], $2::text[], $3::text[], $4::bytea[]);

-- name: all
SELECT message, message_bytes FROM {schema}.inbox ORDER BY tx, number;

-- name: import_lock
-- Two imports at once are one after the other.
SELECT pg_advisory_xact_lock(1717857891, hashtext($1));

-- name: find
SELECT message, message_bytes FROM {schema}.inbox
WHERE call_id >= $1 AND call_id < $2 AND call_id IS NOT NULL
    AND strpos(substr(call_id, length($1) + 1), '/') = 0
ORDER BY call_id, number LIMIT $3;

-- name: count
SELECT count(*) FROM {schema}.inbox;
