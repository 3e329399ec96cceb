-- A digest of the handlers that a node has: nodes share calls with those that have the same.
ALTER TABLE {schema}.node ADD COLUMN code text NOT NULL DEFAULT '';
