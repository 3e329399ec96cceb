-- When an entity may be forgotten if nothing changes it until then. Those that never are stay out of the index, and
-- their changes, which leave the column alone, need not touch any index.
ALTER TABLE {schema}.entity ADD COLUMN expires_at float8;

CREATE INDEX expiring_entity ON {schema}.entity (entity, expires_at) WHERE expires_at IS NOT NULL;

-- For people: the states of entities, to be queried. `state` is null where the database cannot read it: in MessagePack,
-- compressed or encrypted, or with a character U+0000 in a text, which jsonb cannot hold.
CREATE VIEW {schema}.entities AS
SELECT
    type,
    key,
    CASE format WHEN 'json' THEN text::jsonb END AS state,
    format,
    version,
    to_timestamp(changed_at) AS changed_at,
    to_timestamp(expires_at) AS expires_at
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
        expires_at
    FROM {schema}.entity
) AS stored;
