-- Grant all claims of the base part and, where there are options, all of the first that fits.
--
-- KEYS  1 epoch   2 the process's holds
-- ARGV  1 epoch   2 now (µs; 0: the server's clock)   3 hold id, or ""   4 number of parts
--       then for each part: number of claims, and for each of those
--         "r" key limit width amount settles provider
--         "q" key counter limit amount hard begins fresh since expires metric weight provider
--         "s" key limit
-- Answer  {"epoch"} | {"gathering"} | {code, now, chosen, left, wait, refused, left, wait, …}
--         code: 1 granted, 0 refused, 2 some counter is missing (its refused is 2)
--
-- The counters' clock is the server's, and never goes back: what it would go back is added from
-- then on. The same arithmetic stands in memory.py; tests run both against one model.

local SLICES = 64
local call, floor = redis.call, math.floor

local epoch = call('HMGET', KEYS[1], 'id', 'last', 'offset', 'ready', 'started')
if epoch[1] ~= ARGV[1] then return {'epoch'} end
local now = tonumber(ARGV[2])
if now == 0 then
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end
local offset, last = tonumber(epoch[3]), tonumber(epoch[2])
now = now + offset
if now < last then
  call('HSET', KEYS[1], 'offset', offset + last - now)
  now = last
end
call('HSET', KEYS[1], 'last', now)
if epoch[4] ~= '1' then return {'gathering'} end
local started = tonumber(epoch[5])

-- What is left of a rate limit's counts: their total and the last slice.
local function forget(key, oldest)
  local got = call('HMGET', key, 't', 'o', 'l')
  if not got[1] then return 0 end
  local total, first, latest = tonumber(got[1]), tonumber(got[2]), tonumber(got[3])
  if latest < oldest then
    call('DEL', key)
    return 0
  end
  if first < oldest then
    local past = {}
    for slice = first, oldest - 1 do past[#past + 1] = slice end
    for _, count in ipairs(call('HMGET', key, unpack(past))) do
      total = total - (tonumber(count) or 0)
    end
    call('HDEL', key, unpack(past))
    call('HSET', key, 't', total, 'o', oldest)
  end
  return total
end

-- µs until `over` less is counted.
local function wait_for(key, width, over, oldest)
  local slices = {}
  for slice = oldest, oldest + SLICES do slices[#slices + 1] = slice end
  for number, count in ipairs(call('HMGET', key, unpack(slices))) do
    over = over - (tonumber(count) or 0)
    if over <= 0 then return (oldest + number + SLICES) * width - now end
  end
  return (SLICES + 1) * width
end

local states, missing = {}, false
local function tell(left, wait, refused)
  local n = #states
  states[n + 1], states[n + 2], states[n + 3] = left, wait, refused
end

local at = 5
local function read()
  at = at + 1
  return ARGV[at - 1]
end

-- One part: whether it fits, and what to do to take it.
local function look()
  local fits, takes = true, {}
  for _ = 1, tonumber(read()) do
    local kind, key = read(), read()
    if kind == 'r' then
      local limit, width, amount = tonumber(read()), tonumber(read()), tonumber(read())
      local settles, provider = read(), read()
      local slice = floor(now / width)
      local total = forget(key, slice - SLICES)
      local left = limit - total - amount
      if left < 0 then
        fits = false
        tell(math.max(0, left + amount), wait_for(key, width, -left, slice - SLICES), 1)
      else
        tell(left, (SLICES + 1) * width - now % width, 0)
        takes[#takes + 1] = {kind, key, slice, amount, total, width, settles, provider}
      end
    elseif kind == 'q' then
      local counter, limit, amount = read(), tonumber(read()), tonumber(read())
      local hard, begins, fresh, since = read(), tonumber(read()), read(), tonumber(read())
      local expires, metric, weight, provider = read(), read(), tonumber(read()), read()
      local got = call('HMGET', key, counter .. ':used', counter .. ':reserved', counter .. ':since')
      local used = tonumber(got[1])
      if not used and fresh == '1' and begins >= started then
        used = 0
        got[3] = since
        call('HSET', key, counter .. ':used', 0, counter .. ':since', since)
        if expires ~= '' then call('EXPIREAT', key, expires) end
      end
      if not used or tonumber(got[3]) < since then
        missing = true
        tell(0, 0, 2)
      else
        local left = limit - used - (tonumber(got[2]) or 0) - amount
        local refused = left < 0 and hard == '1'
        if refused then
          fits = false
          left = left + amount
        end
        tell(math.max(0, left), 0, refused and 1 or 0)
        takes[#takes + 1] = {kind, key, counter, amount, metric, weight, provider}
      end
    else
      local limit = tonumber(read())
      local left = limit - (tonumber(call('GET', key)) or 0) - 1
      if left < 0 then fits = false end
      tell(math.max(0, left), 0, left < 0 and 1 or 0)
      takes[#takes + 1] = {kind, key, 1, 1}
    end
  end
  return fits, takes
end

local hold = {}
local function take(takes)
  for _, one in ipairs(takes) do
    local kind, key, field, amount = one[1], one[2], one[3], one[4]
    if kind == 'r' then
      if one[5] == 0 and call('EXISTS', key) == 0 then
        call('HSET', key, 'o', field, 't', amount, 'l', field, field, amount)
      else
        call('HINCRBY', key, field, amount)
        call('HINCRBY', key, 't', amount)
        call('HSET', key, 'l', field)
      end
      call('PEXPIRE', key, floor((SLICES + 2) * one[6] / 1000) + 1000)
      if one[7] == '1' then
        hold[#hold + 1] = {kind, key, field, amount, false, 'tokens', 1, one[8]}
      end
    elseif kind == 'q' then
      call('HINCRBY', key, field .. ':reserved', amount)
      hold[#hold + 1] = {kind, key, field, amount, false, one[5], one[6], one[7]}
    else
      call('INCR', key)
      hold[#hold + 1] = {kind, key, 1, 1, false, '', 0, ''}
    end
  end
end

local parts = tonumber(ARGV[4])
local fits, base = look()
local chosen, option = -1, {}
if fits and parts > 1 then
  fits = false
  for number = 0, parts - 2 do
    if missing then break end
    local one, takes = look()
    if one and not missing then
      fits, chosen, option = true, number, takes
      break
    end
  end
end
if missing or not fits then
  return {missing and 2 or 0, now, -1, unpack(states)}
end
take(base)
take(option)
if ARGV[3] ~= '' and #hold > 0 then
  local known = call('HGET', KEYS[2], ARGV[3])
  if known then
    local all = cmsgpack.unpack(known)
    for _, one in ipairs(hold) do all[#all + 1] = one end
    hold = all
  end
  call('HSET', KEYS[2], ARGV[3], cmsgpack.pack(hold))
end
return {1, now, chosen, unpack(states)}
