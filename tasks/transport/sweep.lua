-- A sweep: put back what was moved to the `.claimed` lists by workers that ended, or were cut off, before their claim.
--
-- KEYS  the hash of unacked messages, its index, then queue keys. Returns how many messages were put back.
local swept = 0
local failed = failure(begin(), {KEYS[2], 'zset'})
for i = 3, #KEYS do
  local key, claimed = KEYS[i], KEYS[i] .. '.claimed'
  local kinds = {key, 'list', claimed, 'list'}
  while not failed do
    -- The newest first, so that the oldest is taken next.
    local raw = redis.pcall('LINDEX', claimed, 0)
    failed = failure(raw, kinds)
    if failed or not raw then break end
    failed = failure(redis.pcall('RPUSH', key, raw), kinds) or failure(redis.pcall('LPOP', claimed), kinds)
    swept = swept + 1
  end
end
if failed then return redis.error_reply(failed) end
return swept
