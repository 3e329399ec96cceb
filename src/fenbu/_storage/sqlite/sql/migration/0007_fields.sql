-- Lazy fields of entities: a row of its own for each that was set. The entity's row names them, as JSON, so that nobody
-- looks for one that is not there. With a rowid, because values are large: in a table without one they would lie in
-- the tree of the keys.
CREATE TABLE entity_field (
    entity TEXT NOT NULL,
    key TEXT NOT NULL,
    name TEXT NOT NULL,
    value NOT NULL,
    PRIMARY KEY (entity, key, name)
);

ALTER TABLE entity ADD COLUMN fields TEXT;

-- As before, and `lazy`: the names of the lazy fields that were set, whose values are no part of `state`.
DROP VIEW entities;

CREATE VIEW entities AS
SELECT
    entity AS type,
    key,
    CASE WHEN typeof(state) = 'text' AND json_valid(state) THEN json(state) END AS state,
    CASE WHEN typeof(state) = 'text' AND json_valid(state) THEN 'json' ELSE 'opaque' END AS format,
    version,
    strftime('%Y-%m-%dT%H:%M:%fZ', changed_at, 'unixepoch') AS changed_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', expires_at, 'unixepoch') AS expires_at,
    coalesce(fields, '[]') AS lazy
FROM entity;
