-- AUTOINCREMENT, because a reader's cursor must stay valid when the last chunks have been deleted.
CREATE TABLE chunk (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    stream TEXT NOT NULL,
    run INTEGER NOT NULL,
    command INTEGER NOT NULL,
    position INTEGER NOT NULL,
    at REAL NOT NULL,
    value,
    ends INTEGER NOT NULL
);

-- Where it comes from: what a body writes again is there already.
CREATE UNIQUE INDEX chunk_source ON chunk (id, stream, run, command, position);

-- Each index has the number at its end.
CREATE INDEX chunk_order ON chunk (id, stream);
