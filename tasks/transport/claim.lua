-- A claim: acknowledge, claim the messages that blocking pops have moved to the `.claimed` lists, and claim more.
--
-- KEYS  the hash of unacked messages, its index, then queue keys, those that may be taken from first.
-- ARGV  1  how many messages to claim at most
--       2  how many of the queue keys may be taken from
--       3  how many of these share a round, in which each gives one message
--       4  for every queue key "1" (record its messages) or "0" (they need no acknowledgement), as one word
--       5  for every queue key how many messages it may give, separated by blanks
--       6  how many acknowledgements there are
--       then the delivery tags to acknowledge; then, in pairs, the number of a queue key and a message that a blocking
--       pop has moved from it.
-- Returns the number of messages still waiting, the number of unreadable ones, the error that ended it early or "",
--       then, in threes, the number of the queue key, the tag ("" if it needs no acknowledgement) and the message.
local limit, takeable, width = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local recorded, acks, at = ARGV[4], tonumber(ARGV[6]), 7
local now = string.format('%.6f', server_time())
local free = {}
for number in ARGV[5]:gmatch('%d+') do free[#free + 1] = tonumber(number) end
local reply, taken, unreadable = {0, 0, ''}, 0, 0

local function is_recorded(i)
  return recorded:sub(i, i) == '1'
end

-- Return a message without its body, which is most of it: Lua hashes all characters of every string that it makes.
local function without_body(raw)
  local quote = raw:sub(1, 10) == '{"body": "' and raw:find('"', 11, true)
  -- Base64 has no escapes. Another body may be cut off at an escaped quote: then `record` reads the whole message.
  return quote and '{"body": ""' .. raw:sub(quote + 1) or raw
end

-- Record a message as unacked. Returns an error or nil, and its tag, which is nil if the message cannot be read.
local function record(i, raw)
  local read, message = pcall(cjson.decode, without_body(raw))
  if not read then
    -- Half a surrogate pair, in an argument's repr for example: Python's JSON carries it, Lua's refuses it.
    read, message = pcall(cjson.decode, (raw:gsub('\\u[dD][89a-fA-F]%x%x', '?')))
  end
  local properties = read and type(message) == 'table' and message.properties
  local info = type(properties) == 'table' and properties.delivery_info
  local tag = type(info) == 'table' and properties.delivery_tag
  if type(tag) ~= 'string' or type(info.exchange) ~= 'string' or type(info.routing_key) ~= 'string' then
    unreadable = unreadable + 1
    return put_aside(KEYS[i + 2], raw), nil
  end
  -- The index first: a tag without its message is forgotten at its visibility timeout, a message without its tag never.
  local failed = failure(redis.pcall('ZADD', index, now, tag), unacked_types)
  if failed then return failed end
  -- kombu's own format, around the message's own bytes: encoding it again would change numbers and empty lists.
  local origin = ', ' .. cjson.encode(info.exchange) .. ', ' .. cjson.encode(info.routing_key)
  return failure(redis.pcall('HSET', unacked, tag, '[' .. raw .. origin .. ']'), unacked_types), tag
end

-- Claim a message; `remove` removes it from its list. Returns an error or nil.
local function take(i, raw, remove)
  local failed, tag = nil, ''
  if is_recorded(i) then failed, tag = record(i, raw) end
  failed = failed or failure(remove(), {})
  if failed or not tag then return failed end
  taken, free[i] = taken + 1, free[i] - 1
  for _, value in ipairs({i, tag, raw}) do reply[#reply + 1] = value end
end

local failed = failure(begin(), unacked_types)
if not failed and acks > 0 then failed = forget(unpack(ARGV, at, at + acks - 1)) end
if failed then return redis.error_reply(failed) end

local lists = {}
for i = 3, #KEYS do
  lists[#lists + 1] = KEYS[i]
  lists[#lists + 1] = 'list'
end

for n = at + acks, #ARGV, 2 do
  local i, raw = tonumber(ARGV[n]), ARGV[n + 1]
  local key = KEYS[i + 2]
  local claimed = key .. '.claimed'
  if not is_recorded(i) then
    -- Removed from Redis already: no list holds it, and no other worker can deliver it.
    if taken < limit or failure(redis.pcall('RPUSH', key, raw), lists) then take(i, raw, function() end) end
  elseif not failed then
    local found = redis.pcall('LPOS', claimed, raw)
    failed = failure(found, {claimed, 'list'})
    -- Not found: a sweep has put it back, and the claim that takes it from there delivers it. It may have been delivered
    -- already, before this reply: another in its slot might be one too many, and nobody delivers what a pool process
    -- claims beside the message it has.
    if not found then limit = limit - 1 end
    if found and not failed then
      local function remove() return redis.pcall('LREM', claimed, 1, raw) end
      if taken < limit and free[i] > 0 then
        failed = take(i, raw, remove)
      else
        failed = failure(redis.pcall('RPUSH', key, raw), lists) or failure(remove(), {})
      end
    end
  end
end

local waiting, total = {}, 0
for i = 1, takeable do
  local length = redis.pcall('LLEN', KEYS[i + 2])
  local wrong = failure(length, lists)
  failed = failed or wrong
  -- Messages that the queue key may not give do not wait for this channel.
  waiting[i] = (wrong or free[i] < 1) and 0 or length
  total = total + waiting[i]
end

-- Half of the waiting messages: the rest is for workers that claim at the same moment.
local share = math.min(limit, taken + math.ceil(total / 2))
for first = 1, takeable, width do
  local found = true
  while found and taken < share and not failed do
    found = false
    for i = first, math.min(first + width - 1, takeable) do
      if taken < share and waiting[i] > 0 and free[i] > 0 and not failed then
        local key = KEYS[i + 2]
        -- LTRIM, since RPOP would return the message once more.
        failed = take(i, redis.call('LINDEX', key, -1), function() return redis.pcall('LTRIM', key, 0, -2) end)
        if not failed then waiting[i], total, found = waiting[i] - 1, total - 1, true end
      end
    end
  end
end

reply[1], reply[2], reply[3] = total, unreadable, failed or ''
return reply
