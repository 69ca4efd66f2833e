-- A renewal: messages that a living worker holds count as delivered now, so that none of them is redelivered.
--
-- KEYS  the hash of unacked messages, its index.
-- ARGV  their tags. Returns how many of them are unacked still; the others stay forgotten.

-- Tags in one command: Lua takes some 8,000 arguments at a time.
local WIDTH = 1000
local now, renewed = string.format('%.6f', server_time()), 0
local failed = failure(begin(), unacked_types)
for first = 1, #ARGV, WIDTH do
  local scores = {}
  for n = first, math.min(first + WIDTH - 1, #ARGV) do
    scores[#scores + 1] = now
    scores[#scores + 1] = ARGV[n]
  end
  -- Only entries that exist: an acknowledged message must not come back.
  local changed = failed or redis.pcall('ZADD', index, 'XX', 'CH', unpack(scores))
  failed = failed or failure(changed, unacked_types)
  if not failed then renewed = renewed + changed end
end
return failed and redis.error_reply(failed) or renewed
