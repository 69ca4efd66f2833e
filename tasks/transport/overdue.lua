-- The tags of messages that no living worker has renewed for so long that they are redelivered.
--
-- KEYS  the hash of unacked messages, its index.
-- ARGV  the seconds, and how many tags at most, -1 for all. Returns them, the latest first: each is put back to be taken
--       next.
local latest = string.format('%.6f', server_time() - tonumber(ARGV[1]))
local found = redis.pcall('ZRANGE', index, latest, '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, ARGV[2])
local failed = failure(found, unacked_types)
return failed and redis.error_reply(failed) or found
