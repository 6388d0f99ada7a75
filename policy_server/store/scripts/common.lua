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

-- Appends one audit event. Its number is its stream id, so a gap shows.
local function record(stream, sequence, now, fields)
  local number = redis.call('INCR', sequence)
  redis.call('XADD', stream, text(number) .. '-0', 'time', text(now), unpack(fields))
end

local function with(fields, more)
  local all = {}
  for _, value in ipairs(fields) do
    all[#all + 1] = value
  end
  for _, value in ipairs(more) do
    all[#all + 1] = value
  end
  return all
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
  record(stream, sequence, now, {
    'kind', 'settlement', 'state', 'unknown', 'reason', 'deadline_passed',
    'vault_key_id', h.vault_key_id, 'run_id', h.run_id, 'step', h.step,
    'endpoint', h.endpoint, 'amount', h.amount, 'currency', h.currency,
    'idempotency_key', h.name, 'authorization_id', id, 'attempt', h.attempt,
    'object_id', h.object_id,
  })
end
