-- What every script shares. Money and times travel as text, because cjson and
-- Redis would write a large number with an exponent.

local function text(number)
  return string.format('%.0f', number + 0) -- adding 0 turns -0 into 0
end

-- The store's clock decides, so that servers whose clocks differ agree. A test
-- may send its own time.
local function clock(given)
  if given and given > 0 then
    return given
  end
  local now = redis.call('TIME')
  return tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
end

-- Appends one audit event: the call it is about, as JSON, and facts, of which
-- empty ones are left out. Its number is its stream id, so a gap shows.
local function record(stream, sequence, now, kind, call, facts)
  local fields = {'time', text(now), 'kind', kind, 'call', call}
  for i = 1, #facts, 2 do
    if facts[i + 1] ~= '' then
      fields[#fields + 1] = facts[i]
      fields[#fields + 1] = facts[i + 1]
    end
  end
  local number = redis.call('INCR', sequence)
  redis.call('XADD', stream, text(number) .. '-0', unpack(fields))
end

-- A hash as a table.
local function read(key)
  local flat = redis.call('HGETALL', key)
  local fields = {}
  for i = 1, #flat, 2 do
    fields[flat[i]] = flat[i + 1]
  end
  return fields
end

local function add(counters, field, amount)
  for _, counter in ipairs(counters) do
    -- A window that is forgotten by now gets nothing back.
    if amount > 0 or redis.call('EXISTS', counter) == 1 then
      redis.call('HINCRBY', counter, field, text(amount))
    end
  end
end

-- Marks a hold that nobody closed in time. It keeps counting.
local function become_unknown(hold, id, h, deadlines, stream, sequence, now)
  redis.call('HSET', hold, 'state', 'unknown')
  redis.call('ZREM', deadlines, id)
  h.state = 'unknown'
  record(stream, sequence, now, 'settlement', h.call, {
    'state', 'unknown', 'reason', 'deadline_passed', 'attempt', h.attempt, 'object_id', h.object_id,
  })
end
