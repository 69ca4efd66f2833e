-- A release: put claimed messages back where they were taken from, to be taken next, as if never claimed.
--
-- KEYS  the hash of unacked messages, its index, then the queue key of each message, oldest message first.
-- ARGV  in pairs, for each message: its tag, or "" where it needs no acknowledgement, and the message.
-- Returns how many were put back; the others have been restored by another worker meanwhile.
local released = 0
local failed = failure(begin(), unacked_types)
for i = #KEYS - 2, 1, -1 do
  local tag, raw = ARGV[2 * i - 1], ARGV[2 * i]
  local held = tag == '' and 1 or redis.pcall('HEXISTS', unacked, tag)
  failed = failed or failure(held, unacked_types)
  if held == 1 and not failed then
    failed = failure(redis.pcall('RPUSH', KEYS[i + 2], raw), {KEYS[i + 2], 'list'})
    if not failed then
      released = released + 1
      if tag ~= '' then failed = forget(tag) end
    end
  end
end
return failed and redis.error_reply(failed) or released
