-- name: start
-- In a transaction of the user's, through whichever driver: so one text parameter, and the count of partitions
-- that the sender reckons with, which has to be this database's.
INSERT INTO {schema}.inbox (partition, call_id, message, message_bytes)
SELECT new.partition, new.call_id, new.message, decode(new.message_bytes, 'base64')
FROM json_to_recordset(CAST(CAST($1 AS text) AS json)) AS new (
    partition integer, call_id text, message text, message_bytes text
) JOIN {schema}.meta ON meta.name = 'partition_count' AND meta.value = CAST($2 AS text)
