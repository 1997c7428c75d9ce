-- The cache's second level: entries for all workers, and which tags were invalidated when.
--
-- KEYS  1 epoch   2 tags by the stamp of their invalidation   3 entries by when they were used last
--       4 their sizes, and at "" the sum of them; of one entry:  5 itself   6 its lease
-- ARGV  1 command, then
--   look        2 run id of this server   3 a new name   4 epoch known   5 newest stamp known
--               6 about how many changes at most
--   invalidate  2… tags' ids, "" for all there are
--   get         2 a lease's name, "" for none   3 ms it lasts   4 also if what is kept is fresh (1, 0)
--   put         2 epoch   3 stamp before it was asked for   4 tags' ids in a row   5 µs it is fresh
--               6 ms it is of any use   7 bytes of all entries at most   8 lease to end   9 the entry
--   renew       2 lease   3 ms more
--   release     2 lease
--   filled
-- Answer  look: {epoch, stamp, id, stamp, id, stamp …};  invalidate: stamp;  filled: {entries, bytes}
--         get: {entry or "", lease granted (1), another's (0) or not needed (-1), stamp};  the others: 1 where it was done
--
-- A stamp is a moment in µs by this server's clock, made to grow where that does not. An epoch
-- begins when a server starts, or has lost what it knew: entries of another one are not found. That
-- it still knows the stamps, which a server may evict, a member beside them tells.

local call, max = redis.call, math.max
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local command = ARGV[1]
local ID, KEEP, MOST, OVERHEAD, ALL_HERE = 16, 32 * 86400 * 1000000, 1000000, 400, 'all here'

local function whole(number) return string.format('%.0f', number) end

-- What happens from now on has a later stamp than this.
local past = whole(now - 1)

local function outdated(tags, made)
  for at = 1, #tags, ID do
    local stamp = call('ZSCORE', KEYS[2], string.sub(tags, at, at + ID - 1))
    if stamp and tonumber(stamp) > made then return true end
  end
  return false
end

local function drop(entry)
  call('UNLINK', entry)
  call('ZREM', KEYS[3], entry)
  local size = call('HGET', KEYS[4], entry)
  if size then
    call('HDEL', KEYS[4], entry)
    call('HINCRBY', KEYS[4], '', -size)
  end
end

local function holds(lease) return lease ~= '' and call('GET', KEYS[6]) == lease end

if command == 'look' then
  local epoch, run = call('GET', KEYS[1]), ARGV[2]
  if not epoch or string.sub(epoch, 1, #run) ~= run or not call('ZSCORE', KEYS[2], ALL_HERE) then
    epoch = run .. '-' .. ARGV[3]
    call('SET', KEYS[1], epoch)
    call('ZADD', KEYS[2], 0, ALL_HERE)
  end
  if epoch ~= ARGV[4] then return {epoch, past} end
  local answer = {epoch, ARGV[5]}
  local from, till = '(' .. ARGV[5], '+inf'
  -- Those of one stamp are told together: the next look begins behind it.
  local last = call('ZRANGEBYSCORE', KEYS[2], from, till, 'WITHSCORES', 'LIMIT', ARGV[6] - 1, 1)[2]
  if last then till = last end
  local changes = call('ZRANGEBYSCORE', KEYS[2], from, till, 'WITHSCORES')
  for at = 1, #changes, 2 do
    local stamp = whole(tonumber(changes[at + 1]))
    answer[2] = stamp
    answer[#answer + 1] = changes[at]
    answer[#answer + 1] = stamp
  end
  return answer
end

if command == 'invalidate' then
  local last = call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2] or 0
  local stamp = whole(max(now, last + 1))
  local all = false
  for at = 2, #ARGV do
    all = all or ARGV[at] == ''
    call('ZADD', KEYS[2], stamp, ARGV[at])
  end
  call('ZREMRANGEBYSCORE', KEYS[2], '(0', whole(now - KEEP))
  if all or call('ZCARD', KEYS[2]) > MOST then call('UNLINK', KEYS[1], KEYS[2]) end
  return stamp
end

local entry = KEYS[5]

if command == 'get' then
  local kept = call('HMGET', entry, 'made', 'tags', 'until', 'data')
  local data = kept[4] or ''
  if kept[4] and outdated(kept[2], tonumber(kept[1])) then
    drop(entry)
    data = ''
  elseif kept[4] then
    call('ZADD', KEYS[3], 'XX', now, entry)
    if ARGV[4] == '0' and tonumber(kept[3]) > now then return {data, -1, past} end
  end
  local lease = ARGV[2]
  if lease == '' then return {data, -1, past} end
  if call('SET', KEYS[6], lease, 'NX', 'PX', ARGV[3]) or holds(lease) then
    return {data, 1, past}
  end
  return {data, 0, past}
end

if command == 'put' then
  if holds(ARGV[8]) then call('UNLINK', KEYS[6]) end
  local made, tags, data = tonumber(ARGV[3]), ARGV[4], ARGV[9]
  if call('GET', KEYS[1]) ~= ARGV[2] or outdated(tags, made) then return 0 end
  if call('EXISTS', KEYS[3]) == 0 then call('UNLINK', KEYS[4]) end  -- what it evicted is not counted
  drop(entry)
  call('HSET', entry, 'made', ARGV[3], 'tags', tags, 'until', whole(now + ARGV[5]), 'data', data)
  call('PEXPIRE', entry, ARGV[6])
  local size = #data + OVERHEAD
  call('ZADD', KEYS[3], now, entry)
  call('HSET', KEYS[4], entry, size)
  call('HINCRBY', KEYS[4], '', size)
  while tonumber(call('HGET', KEYS[4], '')) > tonumber(ARGV[7]) do
    local oldest = call('ZRANGE', KEYS[3], 0, 0)[1]
    if not oldest then break end
    drop(oldest)
  end
  return 1
end

-- What has expired is counted until its room is needed.
if command == 'filled' then return {call('ZCARD', KEYS[3]), call('HGET', KEYS[4], '') or '0'} end

if not holds(ARGV[2]) then return 0 end
if command == 'renew' then return call('PEXPIRE', KEYS[6], ARGV[3]) end
return call('UNLINK', KEYS[6])
