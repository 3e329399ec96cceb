-- The calls that wait for the instants of an entity's alarms, by operation, as JSON.
ALTER TABLE {schema}.entity ADD COLUMN alarms text;
