-- Identity without a cache: one session at a time writes the chunks of a call, so its numbers are in order.
CREATE TABLE {schema}.chunk (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text COLLATE "C" NOT NULL,
    stream text COLLATE "C" NOT NULL,
    run integer NOT NULL,
    command integer NOT NULL,
    position integer NOT NULL,
    at double precision NOT NULL,
    value text,
    ends boolean NOT NULL,
    value_bytes bytea
) WITH (
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_cost_limit = 2000
);

-- Where it comes from: what a body writes again is there already.
CREATE UNIQUE INDEX chunk_source ON {schema}.chunk (id, stream, run, command, position);

CREATE INDEX chunk_order ON {schema}.chunk (id, stream, number);
