-- name: settings
SELECT name, setting FROM pg_settings
WHERE name IN ('autovacuum', 'fsync', 'full_page_writes', 'server_version', 'synchronous_commit');

-- name: connections
SELECT
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS used,
    current_setting('max_connections')::integer
        - current_setting('superuser_reserved_connections')::integer AS allowed;

-- name: privileges
-- What is missing.
SELECT format('%s on %s', privilege, name) AS missing
FROM unnest('{invocation, entry, entity, entity_field, inbox, chunk, node, partition, meta, step_result}'::text[]) AS name
CROSS JOIN unnest('{SELECT, INSERT, UPDATE, DELETE}'::text[]) AS privilege
WHERE NOT has_table_privilege(format('%I.%I', $1::text, name), privilege);

-- name: transactions
-- The age of the oldest one of others, in seconds, and when this one began: statements read no clock.
SELECT
    extract(epoch FROM max(mine.xact_start - other.xact_start))::float8 AS oldest_seconds,
    extract(epoch FROM mine.xact_start)::float8 AS began_at
FROM pg_stat_activity AS mine
LEFT JOIN pg_stat_activity AS other ON other.pid <> mine.pid AND other.backend_type = 'client backend'
WHERE mine.pid = pg_backend_pid()
GROUP BY mine.xact_start;

-- name: inbox
SELECT n_dead_tup AS dead, pg_total_relation_size(relid) AS bytes
FROM pg_stat_all_tables WHERE schemaname = $1 AND relname = 'inbox';

-- name: touch
UPDATE {schema}.meta SET value = value WHERE name = 'schema_version';
