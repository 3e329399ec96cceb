-- name: columns
entity, key, partition, state, version, changed_at, alarms, expires_at

-- name: upsert
INSERT INTO entity ({columns}) SELECT * FROM (VALUES {rows}) WHERE column1 <> -1
ON CONFLICT (entity, key) DO UPDATE SET
    state = excluded.state,
    version = excluded.version,
    changed_at = excluded.changed_at,
    alarms = excluded.alarms,
    expires_at = excluded.expires_at;

-- name: rewrite
UPDATE entity SET state = :state WHERE entity = :entity AND key = :key AND state IS :old_state;

-- name: scan
SELECT {columns} FROM entity WHERE (entity, key) > (:entity, :key) ORDER BY entity, key LIMIT :limit;

-- name: delete
DELETE FROM entity WHERE (entity, key) IN (
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)
);

-- name: load
SELECT {columns} FROM entity WHERE (entity, key) IN (
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)
);

-- name: expired
SELECT key, partition FROM entity AS old
WHERE entity = :entity AND expires_at <= :now
    AND partition IN (SELECT value FROM json_each(:partitions))
    AND NOT EXISTS (
        SELECT 1 FROM invocation AS open
        WHERE open.entity = old.entity AND open.key = old.key AND finished_at IS NULL AND open.entity IS NOT NULL
    )
ORDER BY expires_at LIMIT :limit;

-- name: misdated
SELECT key, CASE
    WHEN alarms IS NULL AND partition IN (SELECT value FROM json_each(:partitions))
        AND (expires_at IS NULL OR expires_at > changed_at + :ttl)
        AND NOT EXISTS (
            SELECT 1 FROM invocation AS open
            WHERE open.entity = looked_at.entity AND open.key = looked_at.key AND finished_at IS NULL
                AND open.entity IS NOT NULL AND open.handler = :handler
        )
    THEN partition
END
FROM (
    SELECT entity, key, partition, changed_at, alarms, expires_at FROM entity
    WHERE entity = :entity AND key >= :start ORDER BY key LIMIT :limit
) AS looked_at
ORDER BY key;

-- name: list
SELECT {columns} FROM entity WHERE :entity IS NULL OR entity = :entity
ORDER BY changed_at DESC, entity, key LIMIT :limit;
