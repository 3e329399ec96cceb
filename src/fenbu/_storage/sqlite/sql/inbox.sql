-- name: insert
INSERT INTO inbox (partition, call_id, message)
SELECT * FROM (VALUES {rows}) WHERE column1 <> -1;

-- name: delete
DELETE FROM inbox WHERE number IN (SELECT value FROM json_each(?));

-- name: load
SELECT number, message FROM inbox
WHERE number > :after AND number <= :until
    AND partition IN (SELECT value FROM json_each(:partitions))
ORDER BY number LIMIT :limit;

-- name: all
SELECT message FROM inbox ORDER BY number;

-- name: last_number
SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'inbox'), 0);

-- name: calls
SELECT call_id, partition FROM inbox INDEXED BY inbox_call
WHERE call_id IN (SELECT value FROM json_each(?)) AND call_id IS NOT NULL;

-- name: find
SELECT message FROM inbox INDEXED BY inbox_call
WHERE call_id >= :beginning AND call_id < :until AND call_id IS NOT NULL
    AND instr(substr(call_id, length(:beginning) + 1), '/') = 0
ORDER BY call_id, number LIMIT :limit;

-- name: count
SELECT count(*) FROM inbox;

-- name: version
SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'inbox'), 0), data_version
FROM pragma_data_version;
