-- Search attributes: the calls' own column says what they are, and this is the index over it. It is kept by
-- triggers that do nothing for a call without attributes.

ALTER TABLE invocation ADD COLUMN attributes TEXT;

CREATE TABLE attribute (
    call_id TEXT NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    value NOT NULL,
    PRIMARY KEY (call_id, name)
) WITHOUT ROWID;

CREATE INDEX attribute_value ON attribute (name, kind, value);

CREATE TRIGGER attributes_inserted AFTER INSERT ON invocation WHEN NEW.attributes IS NOT NULL
BEGIN
    INSERT INTO attribute (call_id, name, kind, value)
    SELECT
        NEW.id,
        key,
        CASE type
            WHEN 'text' THEN 'text' WHEN 'object' THEN 'time' WHEN 'true' THEN 'bool' WHEN 'false' THEN 'bool'
            ELSE 'number'
        END,
        CASE type
            WHEN 'object' THEN json_extract(value, '$.time') WHEN 'true' THEN 1 WHEN 'false' THEN 0 ELSE atom
        END
    FROM json_each(coalesce(NEW.attributes, '{}'));
END;

CREATE TRIGGER attributes_updated AFTER UPDATE OF attributes ON invocation
WHEN NEW.attributes IS NOT OLD.attributes
BEGIN
    DELETE FROM attribute WHERE call_id = OLD.id;
    INSERT INTO attribute (call_id, name, kind, value)
    SELECT
        NEW.id,
        key,
        CASE type
            WHEN 'text' THEN 'text' WHEN 'object' THEN 'time' WHEN 'true' THEN 'bool' WHEN 'false' THEN 'bool'
            ELSE 'number'
        END,
        CASE type
            WHEN 'object' THEN json_extract(value, '$.time') WHEN 'true' THEN 1 WHEN 'false' THEN 0 ELSE atom
        END
    FROM json_each(coalesce(NEW.attributes, '{}'));
END;

CREATE TRIGGER attributes_deleted AFTER DELETE ON invocation WHEN OLD.attributes IS NOT NULL
BEGIN
    DELETE FROM attribute WHERE call_id = OLD.id;
END;
