-- How far the bodies of a call are, and what middleware gives a call to carry.
ALTER TABLE invocation ADD COLUMN heartbeats TEXT;
ALTER TABLE invocation ADD COLUMN context TEXT;
