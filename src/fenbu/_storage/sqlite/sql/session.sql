-- name: wait_for_lock
PRAGMA busy_timeout = {milliseconds};

-- name: journal_mode
PRAGMA journal_mode;

-- name: use_wal
PRAGMA journal_mode = WAL;

-- name: configure
-- FULL: a commit is on disk when it returns. secure_delete costs a write for each deleted row.
PRAGMA synchronous = FULL;
PRAGMA foreign_keys = OFF;
PRAGMA secure_delete = OFF;
PRAGMA temp_store = MEMORY;
PRAGMA cache_size = -65536;
PRAGMA wal_autocheckpoint = 2000;
PRAGMA journal_size_limit = 67108864;

-- name: only_read
PRAGMA query_only = ON;

-- name: limit_pages
PRAGMA max_page_count = {pages};

-- name: begin
BEGIN IMMEDIATE;

-- name: begin_exclusive
BEGIN EXCLUSIVE;

-- name: read_anything
-- Takes the lock for reading for a moment; fails while somebody holds the one for writing.
PRAGMA schema_version;

-- name: begin_read
BEGIN;
