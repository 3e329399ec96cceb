-- name: columns
entity, key, name, value

-- name: upsert
INSERT INTO entity_field ({columns}) SELECT * FROM (VALUES {rows}) WHERE column1 <> -1
ON CONFLICT (entity, key, name) DO UPDATE SET value = excluded.value;

-- name: delete
DELETE FROM entity_field WHERE (entity, key, name) IN (
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]') FROM json_each(?)
);

-- name: load
SELECT {columns} FROM entity_field WHERE (entity, key, name) IN (
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]') FROM json_each(?)
);

-- name: sizes
SELECT name, length(CAST(value AS BLOB)) FROM entity_field WHERE entity = :entity AND key = :key ORDER BY name;

-- name: scan
SELECT {columns} FROM entity_field WHERE (entity, key, name) > (:entity, :key, :name)
ORDER BY entity, key, name LIMIT :limit;

-- name: rewrite
UPDATE entity_field SET value = :value
WHERE entity = :entity AND key = :key AND name = :name AND value IS :old_value;
