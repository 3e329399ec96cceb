"""`fenbu demo`: a year of flights through the engine, whose worker is killed twice on the way."""
