-- A release: put claimed messages back where they were taken from, to be taken next, as if never claimed.
--
-- KEYS  the hash of unacked messages, its index, then the queue key of each message, oldest message first.
-- ARGV  in pairs, for each message: its tag, or "" where it needs no acknowledgement, and the message.
-- Returns how many were put back; the others have been restored by another worker meanwhile.
local unacked, index = KEYS[1], KEYS[2]
local released = 0
for i = #KEYS - 2, 1, -1 do
  local tag, raw = ARGV[2 * i - 1], ARGV[2 * i]
  if tag == '' or redis.call('HDEL', unacked, tag) == 1 then
    if tag ~= '' then redis.call('ZREM', index, tag) end
    redis.call('RPUSH', KEYS[i + 2], raw)
    released = released + 1
  end
end
return released
