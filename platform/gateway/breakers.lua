-- A breaker of all workers: what it has come to, and who may probe.
--
-- KEYS  1 the breaker   2 the leases of its probes, by their ends   3 changes, by their stamps
-- ARGV  1 command   2 name   3 the newest stamp that the asker knows, then
--   probe    4 lease   5 µs it may take   6 permitted probes
--   end      4 lease   5 success | failure | ignored   6 slow (1, 0)   7 permitted probes
--            8 failure rate threshold   9 slow call rate threshold   10 µs open
--   OPEN     4 µs open
--   CLOSED
--   changes  4 how many at most   5 what the breakers' keys begin with
-- Answer  {granted (1, 0), state, stamp, µs until OPEN ends}; of changes a list of {name, …}
--
-- A stamp is the moment of a change in µs by this server's clock, made to grow where that
-- does not. It is the only thing that tells a newer state from an older one.

local call, max = redis.call, math.max
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local HOUR, DAY = 3600 * 1000000, 86400
local command, name = ARGV[1], ARGV[2]

local function whole(number) return string.format('%.0f', number) end

if command == 'changes' then
  local changes = {}
  local names = call('ZRANGEBYSCORE', KEYS[3], ARGV[3], '+inf', 'LIMIT', 0, ARGV[4])
  for _, changed in ipairs(names) do
    local known = call('HMGET', ARGV[5] .. ':' .. changed, 'state', 'stamp', 'until')
    if known[1] then
      changes[#changes + 1] = {changed, 0, known[1], known[2], whole(max(0, known[3] - now))}
    end
  end
  return changes
end

local known = call('HMGET', KEYS[1], 'state', 'stamp', 'until', 'ended', 'failed', 'slow')
local state, stamp, till = known[1], tonumber(known[2]) or 0, tonumber(known[3]) or 0

local function enter(new, open)
  state, stamp, till = new, max(now, stamp + 1, ARGV[3] + 1), now + open
  call('DEL', KEYS[1], KEYS[2])
  call('HSET', KEYS[1], 'state', new, 'stamp', whole(stamp), 'until', whole(till),
    'ended', 0, 'failed', 0, 'slow', 0)
  call('EXPIRE', KEYS[1], 2 * DAY)
  call('ZADD', KEYS[3], whole(stamp), name)
  call('ZREMRANGEBYSCORE', KEYS[3], '-inf', whole(now - HOUR))
  call('EXPIRE', KEYS[3], DAY)
end

local function answer(granted) return {granted, state, whole(stamp), whole(max(0, till - now))} end

if command == 'OPEN' then
  if state == 'HALF_OPEN' or (state == 'OPEN' and till > now) then return answer(0) end
  enter('OPEN', tonumber(ARGV[4]))
  return answer(0)
end

if command == 'CLOSED' then
  if state ~= 'CLOSED' then enter('CLOSED', 0) end
  return answer(0)
end

local lease = ARGV[4]
call('ZREMRANGEBYSCORE', KEYS[2], '-inf', whole(now))

if command == 'probe' then
  if state == 'OPEN' and till > now then return answer(0) end
  -- One that the asker knows to be closed is older than that the asker's own has opened.
  if state == 'CLOSED' and stamp > tonumber(ARGV[3]) then return answer(0) end
  if state ~= 'HALF_OPEN' then enter('HALF_OPEN', 0) end
  local ended = tonumber(call('HGET', KEYS[1], 'ended'))
  if call('ZCARD', KEYS[2]) + ended >= tonumber(ARGV[6]) then return answer(0) end
  call('ZADD', KEYS[2], whole(now + ARGV[5]), lease)
  call('EXPIRE', KEYS[2], 2 * DAY)
  return answer(1)
end

-- end: a lease that is no longer one says nothing.
if call('ZREM', KEYS[2], lease) == 0 or state ~= 'HALF_OPEN' then
  if not state then state = 'CLOSED' end
  return answer(0)
end
if ARGV[5] == 'ignored' then return answer(0) end
local ended = call('HINCRBY', KEYS[1], 'ended', 1)
local failed = call('HINCRBY', KEYS[1], 'failed', ARGV[5] == 'failure' and 1 or 0)
local slow = call('HINCRBY', KEYS[1], 'slow', ARGV[6])
if ended >= tonumber(ARGV[7]) then
  if failed * 100 >= ARGV[8] * ended or slow * 100 >= ARGV[9] * ended then
    enter('OPEN', tonumber(ARGV[10]))
  else
    enter('CLOSED', 0)
  end
end
return answer(0)
