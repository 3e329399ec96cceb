-- Completing callbacks from SQL. A token is what read_callback_token in ids.py reads: <name>~<partition>~<id>.

CREATE FUNCTION {schema}.settle(token text, message json) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    parts constant text[] := regexp_match(token, '^(\d+(?:\.\d+)?)~\d+~(.+)$');
BEGIN
    IF parts IS NULL THEN
        RAISE EXCEPTION '% is not the token of a callback', coalesce(quote_literal(token), 'NULL')
        USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM {schema}.send(parts[2], (message::jsonb || jsonb_build_object(
        'type', 'signal', 'name', 'callback ' || parts[1]
    ))::json);
END
$function$;

CREATE FUNCTION {schema}.complete(token text, value jsonb DEFAULT 'null') RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
    SELECT {schema}.settle(token, json_build_object('value', coalesce(value, 'null')::text))
$function$;

CREATE FUNCTION {schema}.fail(token text, message text) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
    SELECT {schema}.settle(token, json_build_object('failure', json_build_object(
        'type', 'fenbu.errors:TerminalError', 'message', coalesce(message, 'failed')
    )))
$function$;

REVOKE EXECUTE ON FUNCTION
    {schema}.settle(text, json),
    {schema}.complete(text, jsonb),
    {schema}.fail(text, text)
FROM PUBLIC;
