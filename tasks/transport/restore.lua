-- Put an unacked message back into its queues, for a worker that vanished or handed it back.
--
-- KEYS  the hash of unacked messages, its index, then the queue keys.
-- ARGV  its tag; the entry of the hash under that tag, "" for none; the message to put back; "LPUSH" or "RPUSH".
-- Returns 1; 0 if it has been acknowledged or put back meanwhile. A tag without its message is forgotten.
local tag, entry, raw, push = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local failed = failure(begin(), unacked_types)
local held = redis.pcall('HGET', unacked, tag)
failed = failed or failure(held, unacked_types)
if not failed and not held then failed = forget(tag) end
if not failed and held ~= entry then return 0 end
for i = 3, #KEYS do
  failed = failed or failure(redis.pcall(push, KEYS[i], raw), {KEYS[i], 'list'})
end
failed = failed or forget(tag)
return failed and redis.error_reply(failed) or 1
