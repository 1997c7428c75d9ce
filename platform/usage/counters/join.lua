-- A process tells its holds to an epoch it was not part of.
--
-- KEYS  1 epoch   2 those awaited   3 the process's holds
-- ARGV  1 epoch   2 process
--       then for each hold: id, number of claims, and for each of those:
--         kind key field amount metric weight provider
-- Answer  "epoch" | whether all have come (1, 0)

local call = redis.call
if call('HGET', KEYS[1], 'id') ~= ARGV[1] then return 'epoch' end
local at = 3
while at <= #ARGV do
  local id, count = ARGV[at], tonumber(ARGV[at + 1])
  at = at + 2
  local new = call('HEXISTS', KEYS[3], id) == 0
  local hold = {}
  for number = 1, count do
    local kind, key, field, amount = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
    local metric, weight, provider = ARGV[at + 4], tonumber(ARGV[at + 5]), ARGV[at + 6]
    at = at + 7
    if kind == 'r' then
      field = tonumber(field)
    elseif kind == 'q' then
      if new then call('HINCRBY', key, field .. ':reserved', amount) end
    else
      field = 1
      if new then call('INCR', key) end
    end
    hold[number] = {kind, key, field, amount, false, metric, weight, provider}
  end
  if new then call('HSET', KEYS[3], id, cmsgpack.pack(hold)) end
end
call('SREM', KEYS[2], ARGV[2])
if call('SCARD', KEYS[2]) == 0 then call('HSET', KEYS[1], 'ready', 1) end
return tonumber(call('HGET', KEYS[1], 'ready'))
