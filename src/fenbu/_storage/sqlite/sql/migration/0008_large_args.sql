-- Large arguments stand apart from their call's row, which is rewritten as a whole each time when anything in it
-- changes. Its `args` is then their length, an integer, which no payload is. The triggers do nothing for a call whose
-- arguments stand in its row, and so no path that deletes or rewrites calls has to know of this table.
CREATE TABLE large_args (
    call_id TEXT PRIMARY KEY NOT NULL,
    value NOT NULL
) WITHOUT ROWID;

CREATE TRIGGER large_args_deleted AFTER DELETE ON invocation WHEN typeof(OLD.args) = 'integer'
BEGIN
    DELETE FROM large_args WHERE call_id = OLD.id;
END;

CREATE TRIGGER large_args_replaced AFTER UPDATE OF args ON invocation WHEN typeof(OLD.args) = 'integer'
BEGIN
    DELETE FROM large_args WHERE call_id = OLD.id;
END;
