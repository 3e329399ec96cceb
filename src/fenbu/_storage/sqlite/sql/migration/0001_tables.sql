-- Payload columns (args, result, value, state, message) have no type, so that text stays text and bytes
-- stay bytes. Tables keyed by text are WITHOUT ROWID: one tree instead of two.

CREATE TABLE meta (
    name TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE invocation (
    id TEXT PRIMARY KEY NOT NULL,
    partition INTEGER NOT NULL,
    handler TEXT NOT NULL,
    version INTEGER NOT NULL,
    entity TEXT,
    key TEXT,
    args NOT NULL,
    created_at REAL NOT NULL,
    sequence INTEGER NOT NULL,
    parent TEXT,
    waiters TEXT,
    chain TEXT,
    deadline_at REAL,
    status TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    crashes INTEGER NOT NULL,
    started_at REAL,
    finished_at REAL,
    wake_at REAL,
    waiting TEXT,
    cancel_reason TEXT,
    commands TEXT,
    result,
    failure TEXT
) WITHOUT ROWID;

-- Ready calls of a partition in order of acceptance (1), and the other open ones (0), in one index.
CREATE INDEX open_call ON invocation (
    partition, (wake_at IS NULL AND status IN ('pending', 'running')), sequence
) WHERE finished_at IS NULL;

CREATE INDEX due_call ON invocation (wake_at)
WHERE wake_at IS NOT NULL AND status IN ('pending', 'running', 'suspended');

CREATE INDEX open_operation ON invocation (entity, key, sequence)
WHERE finished_at IS NULL AND entity IS NOT NULL;

CREATE INDEX parked_call ON invocation (handler, status)
WHERE status IN ('stuck', 'unhandled', 'quarantined');

CREATE INDEX finished_call ON invocation (handler, finished_at, status) WHERE finished_at IS NOT NULL;

CREATE INDEX created_call ON invocation (created_at);

-- `parent` is [partition, id, command] as JSON, so the children of a call are a range of it.
CREATE INDEX child_call ON invocation (parent) WHERE parent IS NOT NULL;

CREATE TABLE entry (
    id TEXT NOT NULL,
    position INTEGER NOT NULL,
    kind TEXT NOT NULL,
    at REAL NOT NULL,
    command INTEGER NOT NULL,
    name TEXT,
    attempt INTEGER NOT NULL,
    seconds REAL,
    status TEXT,
    value,
    failure TEXT,
    retry_at REAL,
    commands TEXT,
    PRIMARY KEY (id, position)
) WITHOUT ROWID;

CREATE TABLE entity (
    entity TEXT NOT NULL,
    key TEXT NOT NULL,
    partition INTEGER NOT NULL,
    state NOT NULL,
    version INTEGER NOT NULL,
    changed_at REAL NOT NULL,
    PRIMARY KEY (entity, key)
) WITHOUT ROWID;

-- AUTOINCREMENT, because a reader's cursor must stay valid when the inbox has been empty in between.
CREATE TABLE inbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    partition INTEGER NOT NULL,
    call_id TEXT,
    message NOT NULL
);

-- Calls that are accepted but not applied yet can be found by their id.
CREATE INDEX inbox_call ON inbox (call_id) WHERE call_id IS NOT NULL;
