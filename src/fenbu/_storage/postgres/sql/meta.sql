-- name: server
SELECT
    current_setting('server_version_num')::integer AS version,
    current_setting('server_encoding') AS encoding,
    -- By the catalogue's tables, which this transaction sees as they are when the statement begins:
    -- to_regclass() may answer from a cache.
    EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1) AS schema_exists,
    EXISTS (
        SELECT FROM pg_catalog.pg_class AS class
        JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = class.relnamespace
        WHERE nspname = $1 AND relname = 'meta'
    ) AS meta_exists,
    pg_is_in_recovery() AS is_replica;

-- name: read
SELECT name, value FROM {schema}.meta;

-- name: write
INSERT INTO {schema}.meta (name, value) VALUES ($1, $2)
ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: create_schema
CREATE SCHEMA {schema};

-- name: lock
-- A number of ours, and one for each schema.
SELECT pg_advisory_xact_lock(1717857890, hashtext($1));

-- name: create_partitions
INSERT INTO {schema}.partition (number, epoch) SELECT number, 0 FROM generate_series(0, $1 - 1) AS number;

-- name: foreign_messages
-- What this server can see was written by a transaction before the next one; else another server wrote it.
SELECT EXISTS (
    SELECT FROM {schema}.inbox WHERE tx >= pg_snapshot_xmax(pg_current_snapshot())
);

-- name: adopt_messages
UPDATE {schema}.inbox SET tx = '1';
