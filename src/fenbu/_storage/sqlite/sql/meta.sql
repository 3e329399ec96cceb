-- name: application
PRAGMA application_id;

-- name: mark_application
PRAGMA application_id = {number};

-- name: table_count
SELECT count(*) FROM sqlite_master;

-- name: meta_exists
SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'meta';

-- name: read
SELECT value FROM meta WHERE name = ?;

-- name: write
INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: touch
UPDATE meta SET value = value WHERE name = 'schema_version';

-- name: quick_check
PRAGMA quick_check(3);
