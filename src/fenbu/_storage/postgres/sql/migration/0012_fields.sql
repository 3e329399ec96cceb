-- Lazy fields of entities: a row of its own for each that was set. The entity's row names them, as JSON, so that nobody
-- looks for one that is not there.
CREATE TABLE {schema}.entity_field (
    entity text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    value text,
    value_bytes bytea,
    PRIMARY KEY (entity, key, name)
) WITH (
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_limit = 2000
);

ALTER TABLE {schema}.entity ADD COLUMN fields text;

-- As before, and `lazy`: the names of the lazy fields that were set, whose values are no part of `state`.
CREATE OR REPLACE VIEW {schema}.entities AS
SELECT
    type,
    key,
    CASE format WHEN 'json' THEN text::jsonb END AS state,
    format,
    version,
    to_timestamp(changed_at) AS changed_at,
    to_timestamp(expires_at) AS expires_at,
    coalesce(fields, '[]')::jsonb AS lazy
FROM (
    SELECT
        entity AS type,
        key,
        state AS text,
        CASE
            WHEN state IS NULL THEN 'opaque'
            WHEN strpos(state, '\u0000') > 0 AND state ~ '(^|[^\\])(\\\\)*\\u0000' THEN 'opaque'
            ELSE 'json'
        END AS format,
        version,
        changed_at,
        expires_at,
        fields
    FROM {schema}.entity
) AS stored;
