-- Calls from SQL: what these functions do takes effect if and only if the caller's transaction commits. They
-- are SECURITY DEFINER, so that a role which may execute them, and nothing else, can start calls; nobody may
-- until it is granted. Nothing here is a NOTIFY, which would make the users' commits wait for each other:
-- nodes hear of it by asking.

-- The same in every language: see `partition_of` in ids.py.
CREATE FUNCTION {schema}.partition_of(name text) RETURNS integer
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
    SELECT (('x' || encode(substring(sha256(convert_to(partition_of.name, 'UTF8')) FROM 1 FOR 4), 'hex'))::bit(32)::bigint
        % value::bigint)::integer
    FROM {schema}.meta WHERE meta.name = 'partition_count'
$function$;

CREATE FUNCTION {schema}.start(
    handler text,
    args jsonb DEFAULT '{}',
    id text DEFAULT NULL,
    key text DEFAULT NULL,
    delay interval DEFAULT NULL,
    timeout interval DEFAULT NULL
) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    begun constant double precision := extract(epoch FROM clock_timestamp());
    entropy constant text := replace(gen_random_uuid()::text, '-', '');
    -- Milliseconds, so that ids sort by time, then 64 random bits.
    call_id constant text := coalesce(
        id, lpad(to_hex(floor(begun * 1000)::bigint), 11, '0') || left(entropy, 12) || right(entropy, 4)
    );
    entity constant text := CASE WHEN key IS NOT NULL THEN substring(handler FROM '^(.+)\.[^.]+$') END;
    place integer;
BEGIN
    IF handler IS NULL OR handler = '' THEN
        RAISE EXCEPTION 'start() needs the name of a handler' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF id = '' OR length(id) > 200 OR id ~ '[/~[:cntrl:]]' THEN
        RAISE EXCEPTION 'id must be a text of 1 to 200 printable characters without / and ~, not %', id
        USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF key IS NOT NULL AND (entity IS NULL OR key = '' OR length(key) > 400 OR key ~ '[[:cntrl:]]') THEN
        RAISE EXCEPTION 'a key of 1 to 400 printable characters belongs to an operation, as in %',
            'start(''Account.deposit'', key => ''alice'')'
        USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF args IS NULL OR jsonb_typeof(args) <> 'object' THEN
        RAISE EXCEPTION 'args must be a JSON object of arguments by their names, as in %',
            'start(''resize'', ''{"width": 640}'')'
        USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF delay < interval '0' OR timeout < interval '0' THEN
        RAISE EXCEPTION 'delay and timeout must not be negative' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    place := {schema}.partition_of(CASE WHEN key IS NULL THEN call_id ELSE entity || '/' || key END);
    INSERT INTO {schema}.inbox (partition, call_id, message) VALUES (place, call_id, json_build_object(
        'type', 'call',
        'fresh', id IS NULL,
        'invocation', json_build_object(
            'id', call_id,
            'partition', place,
            'handler', handler,
            -- Whichever is the newest where it is accepted.
            'version', 0,
            'entity', entity,
            'key', key,
            'args', args::text,
            'created_at', begun,
            'deadline_at', begun + extract(epoch FROM timeout),
            'wake_at', begun + extract(epoch FROM delay)
        )
    )::text);
    RETURN call_id;
END
$function$;

CREATE FUNCTION {schema}.send(call_id text, message json) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    place integer;
BEGIN
    SELECT partition INTO place FROM {schema}.invocation WHERE id = call_id;
    IF place IS NULL THEN
        SELECT partition INTO place FROM {schema}.inbox WHERE inbox.call_id = send.call_id LIMIT 1;
    END IF;
    IF place IS NULL THEN
        RAISE EXCEPTION 'no call has the id %, or its retention is over', call_id USING ERRCODE = 'no_data_found';
    END IF;
    INSERT INTO {schema}.inbox (partition, message)
    VALUES (place, (message::jsonb || jsonb_build_object('partition', place, 'id', call_id))::text);
END
$function$;

CREATE FUNCTION {schema}.signal(id text, name text, value jsonb DEFAULT 'null') RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
    SELECT {schema}.send(id, json_build_object(
        'type', 'signal', 'name', name, 'value', coalesce(value, 'null')::text
    ))
$function$;

CREATE FUNCTION {schema}.cancel(id text, reason text DEFAULT 'cancelled') RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
    SELECT {schema}.send(id, json_build_object('type', 'cancel', 'reason', reason))
$function$;

REVOKE EXECUTE ON FUNCTION
    {schema}.partition_of(text),
    {schema}.start(text, jsonb, text, text, interval, interval),
    {schema}.send(text, json),
    {schema}.signal(text, text, jsonb),
    {schema}.cancel(text, text)
FROM PUBLIC;

-- What a transactional step returned, written in its own transaction; the journal entry takes its place.
CREATE TABLE {schema}.step_result (
    id text COLLATE "C" NOT NULL,
    run text COLLATE "C" NOT NULL,
    command integer NOT NULL,
    value text,
    value_bytes bytea,
    PRIMARY KEY (id, run, command)
) WITH (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0
);
