-- name: configure
-- Of a session that lasts. Every statement is planned once, for any number of rows, while the tables may still
-- be empty: so it must not take the way that is best for an empty table.
SELECT
    set_config('plan_cache_mode', 'force_generic_plan', false),
    set_config('enable_seqscan', 'off', false),
    set_config('enable_hashjoin', 'off', false),
    set_config('enable_mergejoin', 'off', false),
    set_config('jit', 'off', false),
    set_config('default_transaction_isolation', 'read committed', false),
    set_config('lock_timeout', $2, false),
    set_config('application_name', $1, false);

-- name: guard
-- The server ends the session, and with it the locks, within seconds when this host has vanished.
SELECT
    set_config('tcp_keepalives_idle', '4', false),
    set_config('tcp_keepalives_interval', '2', false),
    set_config('tcp_keepalives_count', '2', false),
    set_config('tcp_user_timeout', '8000', false),
    set_config(name, '0', false)
FROM pg_settings WHERE name IN ('idle_session_timeout', 'statement_timeout');

-- name: check_connection
-- Also while a statement runs; the server has this setting from version 14 on.
SELECT set_config(name, '2s', false) FROM pg_settings WHERE name = 'client_connection_check_interval';

-- name: mark
SELECT set_config('fenbu.session', $1, false), pg_backend_pid() AS pid;

-- name: marked
SELECT current_setting('fenbu.session', true) AS mark, pg_backend_pid() AS pid;

-- name: backend
SELECT pg_backend_pid();
