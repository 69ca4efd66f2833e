-- A claim: acknowledge, claim what blocking pops have moved to the `.claimed` lists, and claim more.
--
-- KEYS  the hash of unacked messages, its index, then queue keys, those that may be taken from first.
-- ARGV  now; how many messages at most; how many queue keys may be taken from; how many of them share a round;
--       for every queue key "1" (record its messages) or "0" (they need no acknowledgement), as one word;
--       how many acknowledgements; their tags; then, in pairs, the number of a queue key and a message
--       that a blocking pop has moved from it.
-- Returns the number of messages still waiting, the number of unreadable ones, then, in pairs, the number of
--       the queue key and the message.
local unacked, index = KEYS[1], KEYS[2]
local now, most, takeable, width = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local recorded, acks, at = ARGV[5], tonumber(ARGV[6]), 7
local reply, taken, unreadable = {0, 0}, 0, 0

local function is_recorded(i)
  return recorded:sub(i, i) == '1'
end

-- kombu's own format, around the message's own bytes: encoding it again would change numbers and empty lists.
local function take(i, raw)
  if is_recorded(i) then
    local read, message = pcall(cjson.decode, raw)
    if not read then
      -- Half a surrogate pair, in an argument's repr for example: Python's JSON carries it, Lua's refuses it.
      read, message = pcall(cjson.decode, (raw:gsub('\\u[dD][89a-fA-F]%x%x', '?')))
    end
    local properties = read and type(message) == 'table' and message.properties
    local info = type(properties) == 'table' and properties.delivery_info
    local tag = type(info) == 'table' and properties.delivery_tag
    if type(tag) ~= 'string' or type(info.exchange) ~= 'string' or type(info.routing_key) ~= 'string' then
      redis.call('LPUSH', KEYS[i + 2] .. '.unreadable', raw)
      unreadable = unreadable + 1
      return
    end
    local origin = ', ' .. cjson.encode(info.exchange) .. ', ' .. cjson.encode(info.routing_key)
    redis.call('HSET', unacked, tag, '[' .. raw .. origin .. ']')
    redis.call('ZADD', index, now, tag)
  end
  taken = taken + 1
  reply[#reply + 1] = i
  reply[#reply + 1] = raw
end

if acks > 0 then
  local tags = {unpack(ARGV, at, at + acks - 1)}
  redis.call('ZREM', index, unpack(tags))
  redis.call('HDEL', unacked, unpack(tags))
  at = at + acks
end

for n = at, #ARGV, 2 do
  local i, raw = tonumber(ARGV[n]), ARGV[n + 1]
  local key = KEYS[i + 2]
  -- Gone: a sweep has put it back, and is delivered by the claim that takes it from there.
  if not is_recorded(i) or redis.call('LREM', key .. '.claimed', 1, raw) == 1 then
    if taken < most then take(i, raw) else redis.call('RPUSH', key, raw) end
  end
end

local waiting, total = {}, 0
for i = 1, takeable do
  waiting[i] = redis.call('LLEN', KEYS[i + 2])
  total = total + waiting[i]
end

-- Half of what waits: the rest is for workers that ask at the same moment.
local limit = math.min(most, taken + math.ceil(total / 2))
for first = 1, takeable, width do
  local found = true
  while found and taken < limit do
    found = false
    for i = first, math.min(first + width - 1, takeable) do
      if taken < limit and waiting[i] > 0 then
        -- RPOP before anything else: a full server lets a script that has made room go on.
        local raw = redis.call('RPOP', KEYS[i + 2])
        waiting[i], total, found = waiting[i] - 1, total - 1, true
        take(i, raw)
      end
    end
  end
end

reply[1], reply[2] = total, unreadable
return reply
