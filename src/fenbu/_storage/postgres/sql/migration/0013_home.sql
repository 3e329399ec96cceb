-- What SQL sends to a call is addressed to where that was accepted, as from everywhere: see `home_of` in ids.py. Its row
-- says where it is, which is elsewhere if it was given to another node for its load. On two ways, messages of one sender
-- would not be in order.

-- NULL if there is no such call.
CREATE FUNCTION {schema}.home_of(call_id text) RETURNS integer
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $function$
    SELECT coalesce(
        -- Operations stay with their entity; updates belong to their workflow, whose id is the first part of theirs.
        (SELECT CASE WHEN entity IS NULL THEN {schema}.partition_of(split_part(id, '/@', 1)) ELSE partition END
         FROM {schema}.invocation WHERE id = home_of.call_id),
        (SELECT partition FROM {schema}.inbox WHERE inbox.call_id = home_of.call_id LIMIT 1)
    )
$function$;

CREATE OR REPLACE FUNCTION {schema}.send(call_id text, message json) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    place constant integer := {schema}.home_of(call_id);
BEGIN
    IF place IS NULL THEN
        RAISE EXCEPTION 'no call has the id %, or its retention is over', call_id USING ERRCODE = 'no_data_found';
    END IF;
    INSERT INTO {schema}.inbox (partition, message)
    VALUES (place, (message::jsonb || jsonb_build_object('partition', place, 'id', call_id))::text);
END
$function$;

-- As before, but for `place`. Returns the id of the update's call: {schema}.invocation has its outcome.
CREATE OR REPLACE FUNCTION {schema}.update(
    id text, name text, args jsonb DEFAULT '[]', update_id text DEFAULT NULL
)
RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    workflow constant text := id;
    call_id constant text := id || '/@' || coalesce(update_id, replace(gen_random_uuid()::text, '-', ''));
    place constant integer := {schema}.home_of(id);
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

REVOKE EXECUTE ON FUNCTION {schema}.home_of(text) FROM PUBLIC;
