-- Store the states of tasks, each unless that would take back a final one, and publish them. Returns for each of them 1
-- if it was stored, 0 if it was left out, or the error that Redis refused it with.
--
-- KEYS: the result keys, which are the channels as well.
-- ARGV[1]: seconds to live, 0 for ever. ARGV[2]: 1 if the new states are final. A final state may replace FAILURE (a
-- redelivered job that succeeds, a replayed dead letter) and REVOKED (the ledger decides), but nothing replaces SUCCESS,
-- as with Celery's own backend. ARGV[3] and on: the result documents in Celery's format, one for each key.

local seconds, final = ARGV[1], ARGV[2] == '1'

local function store(key, document)
    -- Celery's documents begin with their status; reading no more keeps a large result out of the script.
    local head = redis.pcall('GETRANGE', key, 0, 31)
    if type(head) == 'table' then
        -- A key of another type holds no result: it is replaced.
        if not string.find(head.err, 'WRONGTYPE', 1, true) then
            return head
        end
        head = ''
    end
    local status = string.match(head, '^{"status": ?"(%u+)"')
    if status == 'SUCCESS' or (not final and (status == 'FAILURE' or status == 'REVOKED')) then
        return 0
    end
    local stored
    if seconds == '0' then
        stored = redis.pcall('SET', key, document)
    else
        stored = redis.pcall('SET', key, document, 'EX', seconds)
    end
    if stored.err then
        return stored
    end
    local published = redis.pcall('PUBLISH', key, document)
    return type(published) == 'table' and published or 1
end

local replies = {}
for number, key in ipairs(KEYS) do
    replies[number] = store(key, ARGV[number + 2])
end
return replies
