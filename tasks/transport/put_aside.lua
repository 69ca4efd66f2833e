-- Put a message aside that nothing can read, and forget that it is unacked.
--
-- KEYS  the hash of unacked messages, its index, the queue key that the message came from.
-- ARGV  its tag, or "" where it needs no acknowledgement, and the message. Returns 1.
local unacked, index = KEYS[1], KEYS[2]
local kinds = {unacked, 'hash', index, 'zset'}
local failed = failure(begin(), kinds) or put_aside(KEYS[3], ARGV[2])
if not failed and ARGV[1] ~= '' then
  failed = failure(redis.pcall('HDEL', unacked, ARGV[1]), kinds)
    or failure(redis.pcall('ZREM', index, ARGV[1]), kinds)
end
if failed then return redis.error_reply(failed) end
return 1
