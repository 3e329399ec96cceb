-- name: load
-- What a snapshot sees that an earlier one did not: from transactions that were under way then ($2), or
-- began later ($1). A reading of several parts sees no more than its first part did ($5, $6).
-- `partition` is looked up in a byte for each, and no index, so that the rows come in order.
SELECT snapshot.text AS snapshot, found.*
FROM (VALUES (pg_current_snapshot()::text)) AS snapshot (text) LEFT JOIN LATERAL (
    SELECT * FROM (
        (
            SELECT tx::text, number, message, message_bytes, tx AS rank FROM {schema}.inbox
            WHERE tx = ANY ($2::text[]::xid8[]) AND (tx, number) > ($3::text::xid8, $4::bigint)
                AND ($5::text IS NULL OR pg_visible_in_snapshot(tx, $5::text::pg_snapshot))
                AND substr($7::bytea, partition + 1, 1) = '\x01'
            ORDER BY inbox.tx, number LIMIT $8
        )
        UNION ALL
        (
            SELECT tx::text, number, message, message_bytes, tx AS rank FROM {schema}.inbox
            WHERE tx >= $1::text::xid8 AND (tx, number) > ($3::text::xid8, $4::bigint)
                AND tx < $6::text::xid8
                AND ($5::text IS NULL OR pg_visible_in_snapshot(tx, $5::text::pg_snapshot))
                AND substr($7::bytea, partition + 1, 1) = '\x01'
            ORDER BY inbox.tx, number LIMIT $8
        )
    ) AS each
    ORDER BY rank, number LIMIT $8
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
