-- The end of a hold: what it used instead of what it had reserved.
--
-- KEYS  1 epoch   2 the process's holds   3 settled by others
-- ARGV  1 epoch   2 hold id   3 "own", or "other" where its process is dead
--       4… what was used, by claim, in the order in which they were granted
-- Answer  "epoch" | used by quota claim, in order (-1 where it is missing)
--
-- A hold is settled once. Where its process was taken for dead, and comes back to settle after
-- all, what was noted for it (KEYS[3], for a day) is put right by the difference.

local call = redis.call
if call('HGET', KEYS[1], 'id') ~= ARGV[1] then return 'epoch' end
local answer = {}

local function use(key, counter, amount)
  call('HINCRBY', key, counter .. ':changes', 1)
  if call('HEXISTS', key, counter .. ':used') == 1 then
    answer[#answer + 1] = call('HINCRBY', key, counter .. ':used', amount)
  else
    answer[#answer + 1] = -1
  end
end

local packed = call('HGET', KEYS[2], ARGV[2])
if not packed then
  local noted = call('HGET', KEYS[3], ARGV[2])
  if not noted then return answer end
  for number, one in ipairs(cmsgpack.unpack(noted)) do
    if one[1] == 'q' then use(one[2], one[3], (tonumber(ARGV[3 + number]) or 0) - one[4]) end
  end
  call('HDEL', KEYS[3], ARGV[2])
  return answer
end

local noted = {}
for number, one in ipairs(cmsgpack.unpack(packed)) do
  local kind, key, field, reserved = one[1], one[2], one[3], one[4]
  local used = tonumber(ARGV[3 + number]) or 0
  noted[number] = {kind, key, field, used}
  if kind == 'r' then
    if call('HEXISTS', key, field) == 1 then
      call('HINCRBY', key, field, used - reserved)
      call('HINCRBY', key, 't', used - reserved)
    end
  elseif kind == 'q' then
    call('HINCRBY', key, field .. ':reserved', -reserved)
    use(key, field, one[5] and 0 or used)
  else
    if call('DECR', key) <= 0 then call('DEL', key) end
  end
end
call('HDEL', KEYS[2], ARGV[2])
if ARGV[3] == 'other' then
  call('HSET', KEYS[3], ARGV[2], cmsgpack.pack(noted))
  call('EXPIRE', KEYS[3], 86400)
end
return answer
