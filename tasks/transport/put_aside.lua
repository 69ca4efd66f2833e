-- Put a message aside that cannot be read, and forget that it is unacked.
--
-- KEYS  the hash of unacked messages, its index, the queue key that the message came from.
-- ARGV  its tag, or "" where it needs no acknowledgement, and the message. Returns 1.
local tag, raw = ARGV[1], ARGV[2]
local failed = failure(begin(), unacked_types) or put_aside(KEYS[3], raw)
if not failed and tag ~= '' then failed = forget(tag) end
return failed and redis.error_reply(failed) or 1
