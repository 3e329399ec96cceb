-- Search attributes: the calls' own column says what they are, and this table is the index over it, which SQL may
-- read as well. It is kept by triggers that do nothing for a call without attributes.

ALTER TABLE {schema}.invocation ADD COLUMN attributes text;

CREATE TABLE {schema}.attribute (
    call_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    -- text, number, bool (0 or 1), time (seconds since 1970); text is in `text`, all else in `number`.
    kind text COLLATE "C" NOT NULL,
    number numeric,
    text text COLLATE "C",
    PRIMARY KEY (call_id, name)
);

CREATE INDEX attribute_number ON {schema}.attribute (name, kind, number) WHERE number IS NOT NULL;

CREATE INDEX attribute_text ON {schema}.attribute (name, kind, text) WHERE text IS NOT NULL;

CREATE FUNCTION {schema}.attributes_changed() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        DELETE FROM {schema}.attribute WHERE call_id = OLD.id;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO {schema}.attribute (call_id, name, kind, number, text)
        SELECT
            NEW.id,
            key,
            CASE json_typeof(value)
                WHEN 'string' THEN 'text' WHEN 'boolean' THEN 'bool' WHEN 'object' THEN 'time' ELSE 'number'
            END,
            CASE json_typeof(value)
                WHEN 'boolean' THEN CASE value::text WHEN 'true' THEN 1 ELSE 0 END
                WHEN 'object' THEN (value ->> 'time')::numeric
                WHEN 'number' THEN (value #>> '{}')::numeric
            END,
            CASE json_typeof(value) WHEN 'string' THEN value #>> '{}' END
        FROM json_each(coalesce(NEW.attributes, '{}')::json);
    END IF;
    RETURN NULL;
END
$function$;

CREATE TRIGGER attributes_inserted AFTER INSERT ON {schema}.invocation
FOR EACH ROW WHEN (NEW.attributes IS NOT NULL) EXECUTE FUNCTION {schema}.attributes_changed();

CREATE TRIGGER attributes_updated AFTER UPDATE OF attributes ON {schema}.invocation
FOR EACH ROW WHEN (NEW.attributes IS DISTINCT FROM OLD.attributes) EXECUTE FUNCTION {schema}.attributes_changed();

CREATE TRIGGER attributes_deleted AFTER DELETE ON {schema}.invocation
FOR EACH ROW WHEN (OLD.attributes IS NOT NULL) EXECUTE FUNCTION {schema}.attributes_changed();

-- Beside start() without attributes, whose grants stay as they are. Instants are given as {"time": seconds}.
CREATE FUNCTION {schema}.start(
    handler text,
    args jsonb,
    attributes jsonb,
    id text DEFAULT NULL,
    key text DEFAULT NULL,
    delay interval DEFAULT NULL,
    timeout interval DEFAULT NULL
) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    started text;
BEGIN
    IF jsonb_typeof(attributes) <> 'object' OR EXISTS (
        SELECT FROM jsonb_each(attributes) AS each
        WHERE each.key !~ '^[[:alpha:]_][[:alnum:]_]*$' OR length(each.key) > 64
            OR CASE jsonb_typeof(each.value)
                WHEN 'string' THEN octet_length(each.value #>> '{}') > 1000 OR each.value #>> '{}' ~ '[[:cntrl:]]'
                WHEN 'number' THEN abs((each.value #>> '{}')::numeric) >= 1e300
                WHEN 'boolean' THEN false
                WHEN 'object' THEN jsonb_typeof(each.value -> 'time') IS DISTINCT FROM 'number'
                ELSE true
            END
    ) THEN
        RAISE EXCEPTION 'attributes must be a JSON object of texts of at most 1000 bytes, numbers and booleans, as in %',
            'start(''ship'', ''{}'', attributes => ''{"customer": 7}'')'
        USING ERRCODE = 'invalid_parameter_value';
    END IF;
    started := {schema}.start(handler, args, id, key, delay, timeout);
    UPDATE {schema}.inbox SET message = jsonb_set(
        message::jsonb, '{invocation, attributes}', to_jsonb(nullif(attributes, '{}')::text)
    )::text
    WHERE attributes <> '{}' AND number = (SELECT max(number) FROM {schema}.inbox WHERE call_id = started);
    RETURN started;
END
$function$;

REVOKE EXECUTE ON FUNCTION
    {schema}.attributes_changed(),
    {schema}.start(text, jsonb, jsonb, text, text, interval, interval)
FROM PUBLIC;
