-- name: load
SELECT field.entity, field.key, field.name, value, value_bytes
FROM unnest($1::text[], $2::text[], $3::text[]) AS wanted (entity, key, name)
JOIN {schema}.entity_field AS field
    ON field.entity = wanted.entity AND field.key = wanted.key AND field.name = wanted.name;

-- name: sizes
SELECT name, coalesce(octet_length(value), octet_length(value_bytes)) FROM {schema}.entity_field
WHERE entity = $1 AND key = $2 ORDER BY name;

-- name: scan
SELECT entity, key, name, value, value_bytes FROM {schema}.entity_field
WHERE (entity, key, name) > ($1::text, $2::text, $3::text) ORDER BY entity, key, name LIMIT $4;

-- name: rewrite
UPDATE {schema}.entity_field SET value = $4, value_bytes = $5
WHERE entity = $1 AND key = $2 AND name = $3
    AND value IS NOT DISTINCT FROM $6::text AND value_bytes IS NOT DISTINCT FROM $7::bytea;
