-- Put an unacked message back into its queues, for a worker that vanished or handed it back.
--
-- KEYS  the hash of unacked messages, its index, then the queue keys.
-- ARGV  its tag; what the hash holds under it; the message to put back; "LPUSH" or "RPUSH".
-- Returns 1; 0 if it has been acknowledged or put back meanwhile.
local unacked, index, tag = KEYS[1], KEYS[2], ARGV[1]
local kinds = {unacked, 'hash', index, 'zset'}
local failed = failure(begin(), kinds)
local held = redis.pcall('HGET', unacked, tag)
failed = failed or failure(held, kinds)
if held ~= ARGV[2] and not failed then return 0 end
for i = 3, #KEYS do
  failed = failed or failure(redis.pcall(ARGV[4], KEYS[i], ARGV[3]), {KEYS[i], 'list'})
end
failed = failed or failure(redis.pcall('HDEL', unacked, tag), kinds) or failure(redis.pcall('ZREM', index, tag), kinds)
if failed then return redis.error_reply(failed) end
return 1
