-- A payload (args, result, value, state, message) has two columns: text that people can read, or bytes, and
-- the other one is NULL, which costs a bit. Names and ids are compared byte by byte (COLLATE "C"): it is the
-- order of every other storage, and quick.

CREATE TABLE {schema}.meta (
    name text PRIMARY KEY,
    value text NOT NULL
);

CREATE TABLE {schema}.invocation (
    id text COLLATE "C" PRIMARY KEY,
    partition integer NOT NULL,
    handler text COLLATE "C" NOT NULL,
    version integer NOT NULL,
    entity text COLLATE "C",
    key text COLLATE "C",
    args text,
    created_at double precision NOT NULL,
    sequence bigint NOT NULL,
    parent text COLLATE "C",
    waiters text,
    chain text,
    deadline_at double precision,
    status text COLLATE "C" NOT NULL,
    attempt integer NOT NULL,
    crashes integer NOT NULL,
    started_at double precision,
    finished_at double precision,
    wake_at double precision,
    waiting text,
    cancel_reason text,
    commands text,
    result text,
    failure text,
    args_bytes bytea,
    result_bytes bytea,
    -- What indexes need to know of `status` and `wake_at`: 1 ready, 2 open and not ready, 3 stuck,
    -- 4 quarantined, 5 unhandled, from 6 on finished. As no index has `status` itself, a change from pending
    -- to running touches no index, and the new row can stay on its page (HOT).
    lane smallint NOT NULL GENERATED ALWAYS AS (
        CASE status
            WHEN 'stuck' THEN 3
            WHEN 'quarantined' THEN 4
            WHEN 'unhandled' THEN 5
            WHEN 'completed' THEN 6
            WHEN 'failed' THEN 7
            WHEN 'cancelled' THEN 8
            WHEN 'timed_out' THEN 9
            WHEN 'suspended' THEN 2
            ELSE CASE WHEN wake_at IS NULL THEN 1 ELSE 2 END
        END
    ) STORED
) WITH (
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_limit = 2000
);

-- Ready calls of a partition in order of acceptance, and the other open ones, in one index.
CREATE INDEX open_call ON {schema}.invocation (partition, lane, sequence) WHERE lane <= 5;

CREATE INDEX due_call ON {schema}.invocation (wake_at) WHERE lane = 2 AND wake_at IS NOT NULL;

CREATE INDEX open_operation ON {schema}.invocation (entity, key, sequence)
WHERE lane <= 5 AND entity IS NOT NULL;

CREATE INDEX parked_call ON {schema}.invocation (handler, lane) WHERE lane BETWEEN 3 AND 5;

CREATE INDEX finished_call ON {schema}.invocation (handler, finished_at, lane) WHERE lane >= 6;

CREATE INDEX created_call ON {schema}.invocation (created_at);

-- `parent` is [partition, id, command] as JSON, so the children of a call are a range of it.
CREATE INDEX child_call ON {schema}.invocation (parent) WHERE parent IS NOT NULL;

CREATE TABLE {schema}.entry (
    id text COLLATE "C" NOT NULL,
    position integer NOT NULL,
    kind text NOT NULL,
    at double precision NOT NULL,
    command integer NOT NULL,
    name text,
    attempt integer NOT NULL,
    seconds double precision,
    status text,
    value text,
    failure text,
    retry_at double precision,
    commands text,
    value_bytes bytea,
    PRIMARY KEY (id, position)
) WITH (
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_cost_limit = 2000
);

-- Written again and again: room on each page keeps the new states there, beside no index.
CREATE TABLE {schema}.entity (
    entity text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    partition integer NOT NULL,
    state text,
    version integer NOT NULL,
    changed_at double precision NOT NULL,
    state_bytes bytea,
    PRIMARY KEY (entity, key)
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_limit = 2000
);

-- `tx` is the transaction that wrote the message: see inbox.py for what it is needed for.
CREATE TABLE {schema}.inbox (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tx xid8 NOT NULL DEFAULT pg_current_xact_id(),
    partition integer NOT NULL,
    call_id text COLLATE "C",
    message text,
    message_bytes bytea
) WITH (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 50000,
    autovacuum_vacuum_cost_delay = 0
);

CREATE INDEX inbox_order ON {schema}.inbox (tx, number);

-- Calls that are accepted but not applied yet can be found by their id.
CREATE INDEX inbox_call ON {schema}.inbox (call_id) WHERE call_id IS NOT NULL;

CREATE TABLE {schema}.node (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    started_at double precision NOT NULL,
    leaving boolean NOT NULL DEFAULT false
);

-- `epoch` is raised each time a partition changes hands. `node` is for people and hints: the owner is
-- whoever holds the lock.
CREATE TABLE {schema}.partition (
    number integer PRIMARY KEY,
    epoch bigint NOT NULL,
    node integer
);
