-- How many calls wait for a free place at a node; below 0, how many places are free.
ALTER TABLE {schema}.node ADD COLUMN load integer NOT NULL DEFAULT 0;
