-- Common to all scripts of the transport, which each begin with it. KEYS[1] and KEYS[2] are the hash of unacked messages
-- and its index.
--
-- No failure may lose a message or strand one: every script writes a message where it goes before it removes it where
-- it comes from, so that what is cut in between is in both and is redelivered. A failure that a script can foresee or
-- survive is named; Redis' own error does not say which key it is about.

-- How many unreadable messages a list of them keeps, the newest.
local UNREADABLE_KEPT = 1000

-- Begin to write without changing anything. A script that has written is no longer refused memory: a full server must
-- let a message go from one list into another.
local function begin()
  return redis.pcall('ZREM', KEYS[2], '')
end

-- The error of a reply, with the name of the key that caused it; nil if it is none. `kinds` has in pairs keys and types.
local function failure(reply, kinds)
  if type(reply) ~= 'table' or not reply.err then return nil end
  if reply.err:find('WRONGTYPE', 1, true) then
    for n = 1, #kinds, 2 do
      local found = redis.pcall('TYPE', kinds[n]).ok
      if found and found ~= 'none' and found ~= kinds[n + 1] then
        -- The keys of priorities have control characters in them.
        local name = kinds[n]:gsub('%c+', ':')
        return 'WRONGTYPE the key ' .. name .. ' holds a ' .. found .. ', and the queue needs a ' .. kinds[n + 1]
      end
    end
  end
  return reply.err
end

local function put_aside(key, raw)
  local list = key .. '.unreadable'
  local reply = redis.pcall('LPUSH', list, raw)
  if not failure(reply, {}) then redis.pcall('LTRIM', list, 0, UNREADABLE_KEPT - 1) end
  return failure(reply, {list, 'list'})
end
