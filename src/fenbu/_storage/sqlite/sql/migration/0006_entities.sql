-- When an entity may be forgotten if nothing changes it until then.
ALTER TABLE entity ADD COLUMN expires_at REAL;

CREATE INDEX expiring_entity ON entity (entity, expires_at) WHERE expires_at IS NOT NULL;

-- For people: the states of entities, to be queried. `state` is null where the database cannot read it: in MessagePack,
-- compressed or encrypted.
CREATE VIEW entities AS
SELECT
    entity AS type,
    key,
    CASE WHEN typeof(state) = 'text' AND json_valid(state) THEN json(state) END AS state,
    CASE WHEN typeof(state) = 'text' AND json_valid(state) THEN 'json' ELSE 'opaque' END AS format,
    version,
    strftime('%Y-%m-%dT%H:%M:%fZ', changed_at, 'unixepoch') AS changed_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', expires_at, 'unixepoch') AS expires_at
FROM entity;
