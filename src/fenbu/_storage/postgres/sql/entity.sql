-- name: columns
entity, key, partition, state, version, changed_at, alarms, state_bytes, expires_at

-- name: load
SELECT entity.entity, entity.key, partition, state, version, changed_at, alarms, state_bytes, expires_at
FROM unnest($1::text[], $2::text[]) AS wanted (entity, key)
JOIN {schema}.entity ON entity.entity = wanted.entity AND entity.key = wanted.key;

-- name: expired
SELECT key, partition FROM {schema}.entity AS old
WHERE entity = $1 AND expires_at <= $2 AND partition = ANY ($3::integer[])
    AND NOT EXISTS (
        SELECT FROM {schema}.invocation AS open
        WHERE open.entity = old.entity AND open.key = old.key AND open.lane <= 5 AND open.entity IS NOT NULL
    )
ORDER BY expires_at LIMIT $4;

-- name: misdated
SELECT key, CASE
    WHEN alarms IS NULL AND partition = ANY ($2::integer[])
        AND (expires_at IS NULL OR expires_at > changed_at + $3::float8)
        AND NOT EXISTS (
            SELECT FROM {schema}.invocation AS open
            WHERE open.entity = looked_at.entity AND open.key = looked_at.key AND open.lane <= 5
                AND open.entity IS NOT NULL AND open.handler = $4::text
        )
    THEN partition
END
FROM (
    SELECT entity, key, partition, changed_at, alarms, expires_at FROM {schema}.entity
    WHERE entity = $1 AND key >= $5::text ORDER BY key LIMIT $6
) AS looked_at
ORDER BY key;

-- name: list
SELECT {columns} FROM {schema}.entity WHERE $1::text IS NULL OR entity = $1
ORDER BY changed_at DESC, entity, key LIMIT $2;

-- name: rewrite
UPDATE {schema}.entity SET state = $3, state_bytes = $4
WHERE entity = $1 AND key = $2
    AND state IS NOT DISTINCT FROM $5::text AND state_bytes IS NOT DISTINCT FROM $6::bytea;

-- name: scan
SELECT {columns} FROM {schema}.entity WHERE (entity, key) > ($1::text, $2::text) ORDER BY entity, key LIMIT $3;
