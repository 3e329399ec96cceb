-- name: insert
-- The row is seen from the moment on at which the lock is held.
WITH new AS (
    INSERT INTO {schema}.node (name, host, pid, started_at, code) VALUES ($2, $3, $4, $5, $7) RETURNING id
)
SELECT id, pg_try_advisory_lock($1, $6 + id) AS locked FROM new;

-- name: held
-- The locks of this cluster: those of partitions, and from $2 on those of nodes.
SELECT pid, objid::bigint AS number FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 2 AND classid = $1::integer::oid AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())

-- name: end_ghosts
-- A node that joins has lost its session of before, of which the server may not know for many seconds.
SELECT pg_terminate_backend(held.pid)
FROM {schema}.node JOIN ({held}) AS held ON held.number = $2 + node.id
WHERE node.name = $3 AND node.id <> $4;

-- name: delete_dead
-- Those whose lock nobody holds, which is so from the moment on at which their session has ended.
DELETE FROM {schema}.node
WHERE NOT EXISTS (SELECT FROM ({held}) AS held WHERE held.number = $2 + node.id);

-- name: list
{live}
ORDER BY node.id;

-- name: live
WITH sessions AS (
    SELECT
        max(number) FILTER (WHERE number >= $2) - $2 AS id,
        array_agg(number::integer ORDER BY number) FILTER (WHERE number < $2) AS partitions
    FROM ({held}) AS held
    GROUP BY pid
)
SELECT node.id, name, host, pid, started_at, coalesce(partitions, '{}') AS partitions, leaving, load, code
FROM sessions JOIN {schema}.node ON node.id = sessions.id;

-- name: beat
-- With the question whether the inbox has what a snapshot did not see: see inbox.sql.
-- Whether calls wait for a handler. And with what a node has to say of itself, if it has changed.
WITH mine AS (UPDATE {schema}.node SET load = $6 WHERE id = $7 AND load <> $6)
SELECT live.*, news.found, news.unhandled FROM ({live}) AS live CROSS JOIN (
    SELECT EXISTS (
        SELECT FROM {schema}.inbox WHERE tx = ANY ($4::text[]::xid8[]) AND substr($5::bytea, partition + 1, 1) = '\x01'
    ) OR EXISTS (
        SELECT FROM {schema}.inbox WHERE tx >= $3::text::xid8 AND substr($5::bytea, partition + 1, 1) = '\x01'
    ) AS found,
    EXISTS (SELECT FROM {schema}.invocation WHERE lane BETWEEN 3 AND 5 AND lane = 5) AS unhandled
) AS news
ORDER BY live.id;

-- name: retire
UPDATE {schema}.node SET leaving = true WHERE id = $1;

-- name: take
-- The lock first, then the row, unless somebody holds that: a transaction of the former owner's that is
-- fenced by it has to end before the partition can change hands.
WITH locked AS MATERIALIZED (
    SELECT number FROM unnest($2::integer[]) AS number WHERE pg_try_advisory_lock($1, number)
), ready AS MATERIALIZED (
    SELECT partition.number FROM locked JOIN {schema}.partition ON partition.number = locked.number
    FOR UPDATE OF partition SKIP LOCKED
), taken AS (
    UPDATE {schema}.partition SET epoch = epoch + 1, node = $3 FROM ready
    WHERE partition.number = ready.number RETURNING partition.number, epoch
)
SELECT locked.number, taken.epoch
FROM locked LEFT JOIN taken ON taken.number = locked.number;

-- name: leave
UPDATE {schema}.partition SET node = NULL WHERE number = ANY ($1::integer[]) AND node = $2;

-- name: unlock
SELECT pg_advisory_unlock($1, number) FROM unnest($2::integer[]) AS number;
