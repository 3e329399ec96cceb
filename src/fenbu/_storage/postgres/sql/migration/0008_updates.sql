-- Updates of workflows from SQL, and calls that are started together with a signal. See 0002_transaction.sql.

-- Returns the id of the update's call: {schema}.invocation has its outcome.
CREATE FUNCTION {schema}.update(id text, name text, args jsonb DEFAULT '[]', update_id text DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    workflow constant text := id;
    call_id constant text := id || '/@' || coalesce(update_id, replace(gen_random_uuid()::text, '-', ''));
    place integer;
BEGIN
    IF name IS NULL OR name = '' OR name ~ '[[:space:][:cntrl:]]' THEN
        RAISE EXCEPTION 'update() needs the name of an update' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF update_id = '' OR length(update_id) > 100 OR update_id ~ '[/~[:cntrl:]]' THEN
        RAISE EXCEPTION 'update_id must be a text of 1 to 100 printable characters without / and ~, not %',
            update_id
        USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF args IS NULL OR jsonb_typeof(args) NOT IN ('array', 'object') THEN
        RAISE EXCEPTION 'args must be a JSON array, or an object of arguments by their names, as in %',
            'update(''cart-ann'', ''add'', ''["sku-1"]'')'
        USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT partition INTO place FROM {schema}.invocation WHERE invocation.id = workflow;
    IF place IS NULL THEN
        SELECT partition INTO place FROM {schema}.inbox WHERE inbox.call_id = workflow LIMIT 1;
    END IF;
    IF place IS NULL THEN
        RAISE EXCEPTION 'no call has the id %, or its retention is over', workflow USING ERRCODE = 'no_data_found';
    END IF;
    INSERT INTO {schema}.inbox (partition, call_id, message) VALUES (place, call_id, json_build_object(
        'type', 'update',
        'partition', place,
        'id', workflow,
        'fresh', update_id IS NULL,
        'invocation', json_build_object(
            'id', call_id,
            'partition', place,
            'handler', 'fenbu.update',
            'key', name,
            'args', args::text,
            'created_at', extract(epoch FROM clock_timestamp())
        )
    )::text);
    RETURN call_id;
END
$function$;

-- Starts a call, or finds the one that exists; either way it gets the signal.
CREATE FUNCTION {schema}.start_and_signal(
    handler text,
    id text,
    signal text,
    value jsonb DEFAULT 'null',
    args jsonb DEFAULT '{}',
    delay interval DEFAULT NULL,
    timeout interval DEFAULT NULL
) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    place constant integer := {schema}.partition_of(id);
BEGIN
    IF id IS NULL OR signal IS NULL THEN
        RAISE EXCEPTION 'start_and_signal() needs an id and the name of a signal'
        USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM {schema}.start(handler, args, id, NULL, delay, timeout);
    INSERT INTO {schema}.inbox (partition, message) VALUES (place, json_build_object(
        'type', 'signal', 'partition', place, 'id', id, 'name', signal, 'value', coalesce(value, 'null')::text
    )::text);
    RETURN id;
END
$function$;

REVOKE EXECUTE ON FUNCTION
    {schema}.update(text, text, jsonb, text),
    {schema}.start_and_signal(text, text, text, jsonb, jsonb, interval, interval)
FROM PUBLIC;
