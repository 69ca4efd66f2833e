-- Common to all scripts of the transport: each of them begins with it.
--
-- No failure may lose a message, or leave it where it is never redelivered. Every script writes a message to its new
-- place before it removes it from the old one: if it fails in between, the message is in both and is redelivered.
-- Errors of commands that can fail are returned with the name of the key, which Redis' own errors do not tell.

-- The hash of unacked messages, and its index; they are the first keys of every script.
local unacked, index = KEYS[1], KEYS[2]
-- Keys and the types that they should have, in pairs.
local unacked_types = {unacked, 'hash', index, 'zset'}

-- Number of messages that a list of unreadable messages keeps at most, the newest.
local UNREADABLE_KEPT = 1000

-- The time of the server, in seconds. The clocks of workers differ, and all compare what any of them has written.
local function server_time()
  local clock = redis.call('TIME')
  return tonumber(clock[1]) + tonumber(clock[2]) / 1000000
end

-- Begin to write, without changing anything. A script that has written is no longer refused memory: a full server must
-- let a message go from one list into another.
local function begin()
  return redis.pcall('ZREM', index, '')
end

-- Return the error of a reply, with the name of the key that has the wrong type; nil if the reply is no error.
local function failure(reply, types)
  if type(reply) ~= 'table' or not reply.err then return nil end
  if reply.err:find('WRONGTYPE', 1, true) then
    for n = 1, #types, 2 do
      local found = redis.pcall('TYPE', types[n]).ok
      if found and found ~= 'none' and found ~= types[n + 1] then
        -- The keys of priorities have control characters in them.
        local name = types[n]:gsub('%c+', ':')
        return 'WRONGTYPE the key ' .. name .. ' holds a ' .. found .. ', and the queue needs a ' .. types[n + 1]
      end
    end
  end
  return reply.err
end

-- Remove messages from the unacked hash and its index, by their tags. Returns an error or nil.
local function forget(...)
  return failure(redis.pcall('HDEL', unacked, ...), unacked_types)
    or failure(redis.pcall('ZREM', index, ...), unacked_types)
end

-- Add a message to the list of unreadable messages beside a queue key. Returns an error or nil.
local function put_aside(key, raw)
  local list = key .. '.unreadable'
  local failed = failure(redis.pcall('LPUSH', list, raw), {list, 'list'})
  if not failed then redis.pcall('LTRIM', list, 0, UNREADABLE_KEPT - 1) end
  return failed
end
