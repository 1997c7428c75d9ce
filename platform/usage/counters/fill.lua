-- Fill a missing counter from the ledger, in two steps with the reading of the ledger between.
--
-- KEYS  1 epoch   2 the counter's key   3… the holds of all processes
-- ARGV  1 epoch   2 counter   3 "begin"   4 since   5 expiry (unix s)
--    or 1 epoch   2 counter   3 "end"   4 number from "begin"   5 used   6 since   7 expiry (unix s)
--       8… ids of holds whose use is in `used` already
-- Answer  "epoch" | "begin": {number, ids of the holds that claim of it}; number is -1 where it
--         is filled by now | "end": 1 done, 0 again
--
-- What a hold used is counted once: where `used` has it, nothing of it is reserved any more. So
-- nobody may be let in between the two steps, for the sum might have his row unknown to us.

local call = redis.call
if call('HGET', KEYS[1], 'id') ~= ARGV[1] then return 'epoch' end
local key, counter = KEYS[2], ARGV[2]
local changes = counter .. ':changes'

local function holders(visit)
  for number = 3, #KEYS do
    local all = call('HGETALL', KEYS[number])
    for place = 1, #all, 2 do
      local hold = cmsgpack.unpack(all[place + 1])
      local found = false
      for _, one in ipairs(hold) do
        if one[1] == 'q' and one[2] == key and one[3] == counter then
          found = visit(all[place], one) or found
        end
      end
      if found then call('HSET', KEYS[number], all[place], cmsgpack.pack(hold)) end
    end
  end
end

if ARGV[3] == 'begin' then
  local known = call('HMGET', key, counter .. ':used', counter .. ':since')
  if known[1] and tonumber(known[2]) >= tonumber(ARGV[4]) then return {-1, {}} end
  call('HSET', key, counter .. ':used', known[1] or 0, counter .. ':since', -1)
  if ARGV[5] ~= '' then call('EXPIREAT', key, ARGV[5]) end
  local ids = {}
  holders(function(id) ids[#ids + 1] = id end)
  return {tonumber(call('HGET', key, changes)) or 0, ids}
end

if (tonumber(call('HGET', key, changes)) or 0) ~= tonumber(ARGV[4]) then return 0 end
local counted = {}
for number = 8, #ARGV do counted[ARGV[number]] = true end
holders(function(id, one)
  if not counted[id] or one[5] then return false end
  call('HINCRBY', key, counter .. ':reserved', -one[4])
  one[4], one[5] = 0, true
  return true
end)
call('HSET', key, counter .. ':used', ARGV[5], counter .. ':since', ARGV[6])
call('HINCRBY', key, changes, 1)
if ARGV[7] ~= '' then call('EXPIREAT', key, ARGV[7]) end
return 1
