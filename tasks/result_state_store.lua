-- Store the state of a task, unless that would take back a final one, and publish it. Returns 1 if it was stored.
--
-- KEYS[1]: the result key, which is the channel as well.
-- ARGV[1]: the result document in Celery's format. ARGV[2]: seconds to live, 0 for ever.
-- ARGV[3]: 1 if the new state is final. A final state may replace FAILURE (a redelivered job that succeeds, a replayed
-- dead letter) and REVOKED (the ledger decides), but nothing replaces SUCCESS, as with Celery's own backend.

-- Celery's documents begin with their status; reading no more keeps a large result out of the script.
local head = redis.pcall('GETRANGE', KEYS[1], 0, 31)
if type(head) == 'table' then
    -- A key of another type holds no result: it is replaced.
    if not string.find(head.err, 'WRONGTYPE', 1, true) then
        return head
    end
    head = ''
end
local status = string.match(head, '^{"status": ?"(%u+)"')
if status == 'SUCCESS' or (ARGV[3] ~= '1' and (status == 'FAILURE' or status == 'REVOKED')) then
    return 0
end
if ARGV[2] == '0' then
    redis.call('SET', KEYS[1], ARGV[1])
else
    redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
end
redis.call('PUBLISH', KEYS[1], ARGV[1])
return 1
