-- How far the bodies of a call are, and what middleware gives a call to carry.
ALTER TABLE {schema}.invocation ADD COLUMN heartbeats text, ADD COLUMN context text;
