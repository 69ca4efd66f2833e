-- A sweep: put back what was moved to the `.claimed` lists by workers that ended, or were cut off, before their claim.
--
-- KEYS  queue keys. Returns how many messages were put back.
local swept = 0
for _, key in ipairs(KEYS) do
  while true do
    -- The newest first, so that the oldest is taken next. LPOP and not LMOVE, which a full server refuses.
    local raw = redis.call('LPOP', key .. '.claimed')
    if not raw then break end
    redis.call('RPUSH', key, raw)
    swept = swept + 1
  end
end
return swept
