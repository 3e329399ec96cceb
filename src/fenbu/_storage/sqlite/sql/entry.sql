-- name: columns
id, position, kind, at, command, name, attempt, seconds, status, value, failure, retry_at, commands

-- name: insert
INSERT INTO entry ({columns}) SELECT * FROM (VALUES {rows}) WHERE column1 <> -1;

-- name: rewrite
UPDATE entry SET name = :name, value = :value, failure = :failure
WHERE id = :id AND position = :position
    AND name IS :old_name AND value IS :old_value AND failure IS :old_failure;

-- name: delete
DELETE FROM entry WHERE id IN (SELECT value FROM json_each(?));

-- name: load
SELECT {columns} FROM entry WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id, position;
