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

-- Unknown holds stand behind all that have a deadline, the oldest first, and stay
-- there and in memory until somebody finds out what became of them.
local UNKNOWN_FROM = 2^52

local function await_evidence(hold, id, h, deadlines)
  redis.call('ZADD', deadlines, text(UNKNOWN_FROM + h.held_at), id)
  redis.call('PERSIST', hold)
end

-- Marks a hold that nobody closed in time. It keeps counting.
local function become_unknown(hold, id, h, deadlines, stream, sequence, now)
  redis.call('HSET', hold, 'state', 'unknown')
  await_evidence(hold, id, h, deadlines)
  h.state = 'unknown'
  record(stream, sequence, now, 'settlement', h.call, {
    'state', 'unknown', 'reason', 'deadline_passed', 'attempt', h.attempt, 'object_id', h.object_id,
  })
end

-- What a vault key has counted for one object of the vendor: a total in one
-- currency, and as bookings, the newest last, which part of it stands in which
-- counters. `changes` says how often a step or an observation has set it.
local function read_exposure(key)
  local x = read(key)
  x.key, x.new = key, not x.total
  x.total = tonumber(x.total or 0)
  x.bookings = x.bookings and cjson.decode(x.bookings) or {}
  return x
end

local function keep_exposure(x, now, retention_ms)
  redis.call('HSET', x.key, 'total', text(x.total), 'currency', x.currency,
    'bookings', cjson.encode(x.bookings), 'changes', x.changes or '0')
  if x.unpriced then
    redis.call('HSET', x.key, 'unpriced', x.unpriced)
  end
  if x.new then
    redis.call('PEXPIREAT', x.key, text(now + retention_ms))
  end
end

local function set_anew(x)
  x.changes = text((x.changes or 0) + 1)
end

-- Whether nobody knows what the object commits in the end: a step on it is under
-- way, or was while another one was.
local function is_busy(x)
  return tonumber(x.open or 0) > 0 or x.contended == '1'
end

-- How much of what the object has counted is not promised to a call under way,
-- which gives it back or takes it over when it succeeds.
local function unpromised(x)
  return math.max(0, tonumber(x.total or 0) - tonumber(x.promised or 0))
end

-- Counts `amount` more for the object. A booking of nothing remembers where to
-- count what is found later.
local function book(x, amount, counters)
  if amount > 0 then
    add(counters, 'settled', amount)
  end
  x.total = x.total + amount
  x.bookings[#x.bookings + 1] = {amount = text(amount), counters = counters}
end

-- Counts `surplus` less: the newest booking gives back first, each in the windows
-- where it counted. One that says where to count stays, if only with nothing in it.
local function give_back(x, surplus)
  x.total = x.total - surplus
  for i = #x.bookings, 1, -1 do
    local booking = x.bookings[i]
    local booked = tonumber(booking.amount)
    local back = math.min(surplus, booked)
    if back > 0 then
      add(booking.counters, 'settled', -back)
    end
    surplus = surplus - back
    if back == booked and i > 1 and #x.bookings[i - 1].counters > 0 then
      x.bookings[i] = nil
    else
      booking.amount = text(booked - back)
    end
    if surplus == 0 then
      return
    end
  end
end
