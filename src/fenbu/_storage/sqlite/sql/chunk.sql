-- name: columns
id, stream, run, command, position, at, value, ends

-- name: insert
-- {rows} is filled up with rows that begin with -1, to a size whose statement is prepared already.
INSERT INTO chunk ({columns}) SELECT * FROM (VALUES {rows}) WHERE column1 <> -1
ON CONFLICT (id, stream, run, command, position) DO NOTHING;

-- name: load
-- For each cursor the first number that is too far, by one step of `limit` rows in the index.
WITH wanted AS MATERIALIZED (
    SELECT each.place, each.id, each.stream, each.after, coalesce((
        SELECT number FROM chunk INDEXED BY chunk_order
        WHERE chunk.id = each.id AND chunk.stream = each.stream AND number > each.after
        ORDER BY number LIMIT 1 OFFSET :limit
    ), 9223372036854775807) AS until
    FROM (
        SELECT
            CAST(key AS INTEGER) AS place,
            json_extract(value, '$[0]') AS id,
            json_extract(value, '$[1]') AS stream,
            json_extract(value, '$[2]') AS after
        FROM json_each(:cursors)
    ) AS each
)
SELECT
    wanted.place, chunk.id, chunk.stream, chunk.run, chunk.command, chunk.position, chunk.at, chunk.value,
    chunk.ends, chunk.number
FROM wanted CROSS JOIN chunk INDEXED BY chunk_order
WHERE chunk.id = wanted.id AND chunk.stream = wanted.stream
    AND number > wanted.after AND number < wanted.until
ORDER BY wanted.place, chunk.number;

-- name: of_calls
SELECT {columns}, number FROM chunk WHERE id IN (SELECT value FROM json_each(?)) ORDER BY number;

-- name: scan
SELECT {columns}, number FROM chunk WHERE number > ? ORDER BY number LIMIT ?;

-- name: rewrite
UPDATE chunk SET value = :value WHERE number = :number AND value IS :old_value;

-- name: delete_all
DELETE FROM chunk WHERE id IN (SELECT value FROM json_each(?));

-- name: delete
-- A bounded number of those of these calls.
DELETE FROM chunk WHERE number IN (
    SELECT number FROM chunk WHERE id IN (SELECT value FROM json_each(?)) LIMIT ?
);

-- name: delete_oldest
-- By id, stream, instant and number of rows.
DELETE FROM chunk WHERE at < ?3 AND number IN (
    SELECT number FROM chunk INDEXED BY chunk_order WHERE id = ?1 AND stream = ?2
    ORDER BY number LIMIT ?4
);

-- name: last
SELECT number FROM chunk INDEXED BY chunk_order
WHERE id = :id AND stream = :stream AND (:before IS NULL OR at < :before)
ORDER BY number DESC LIMIT 1;

-- name: owners
-- Those of these calls that have any.
SELECT value FROM json_each(?) AS call WHERE EXISTS (SELECT 1 FROM chunk WHERE chunk.id = call.value);

-- name: streams
SELECT stream, count(*) - sum(ends), max(ends), max(at) FROM chunk WHERE id = ?
GROUP BY stream ORDER BY stream;
