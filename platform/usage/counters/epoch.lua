-- Begin a new epoch, unless there is one of this very server already.
--
-- KEYS  1 epoch   2 those awaited
-- ARGV  1 run id of the server   2 a new epoch's id   3 now (µs; 0: the server's clock)
--       4… processes that may have holds, and must say so before the epoch is ready
-- Answer  {id, ready}
--
-- A store that lost what it knew (emptied, restarted, a replica promoted) has another run id or
-- no epoch. Counting goes on only when every process has told its holds again (join.lua).

local call = redis.call
local known = call('HMGET', KEYS[1], 'id', 'run', 'ready')
if known[1] and known[2] == ARGV[1] then return {known[1], known[3]} end
local now = tonumber(ARGV[3])
if now == 0 then
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end
-- All of ours shares the slot of KEYS[1], and nothing of it can be trusted.
local cursor = '0'
repeat
  local found = call('SCAN', cursor, 'MATCH', '{patchbay}:*', 'COUNT', 1000)
  cursor = found[1]
  for _, key in ipairs(found[2]) do call('UNLINK', key) end
until cursor == '0'
local ready = #ARGV > 3 and '0' or '1'
call('HSET', KEYS[1], 'id', ARGV[2], 'run', ARGV[1], 'started', now, 'last', now, 'offset', 0,
  'ready', ready)
for number = 4, #ARGV do call('SADD', KEYS[2], ARGV[number]) end
return {ARGV[2], ready}
