-- A sweep: put back the messages in the `.claimed` lists, left by workers that ended before their claim.
--
-- KEYS  the hash of unacked messages, its index, then queue keys. Returns how many messages were put back.
local swept = 0
local failed = failure(begin(), unacked_types)
for i = 3, #KEYS do
  local key, claimed = KEYS[i], KEYS[i] .. '.claimed'
  local types = {key, 'list', claimed, 'list'}
  while not failed do
    -- The newest first, so that the oldest is taken next.
    local raw = redis.pcall('LINDEX', claimed, 0)
    failed = failure(raw, types)
    if failed or not raw then break end
    failed = failure(redis.pcall('RPUSH', key, raw), types) or failure(redis.pcall('LPOP', claimed), types)
    swept = swept + 1
  end
end
return failed and redis.error_reply(failed) or swept
