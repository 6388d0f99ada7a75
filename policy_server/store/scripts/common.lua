-- What every script shares. Money and times travel as text, because cjson and
-- Redis would write a large number with an exponent.
--
-- KEYS  1 account record, 2 newest event, 3 audit stream, 4 mark of the archive;
--       a script's own follow, and last one that is never there: in a slot of a
--       cluster that moves, where a script might fail half way, none is run at all
-- ARGV  1 now in ms or 0, 2 epoch and 3 newest event that the server knows of,
--       4 how many events may wait for the archive, or 0 for any number, 5 tip of the
--       events that are written; a script's own follow
--
-- An event is known by its number and its tip, which no other event of that number
-- has: two ledgers that went apart differ in it.
--
-- Every script answers a flat list: status, the newest audit event, and what it
-- says itself.
local account_record, newest, stream, archived = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local epoch, own_tip = ARGV[2], ARGV[5]

local function number_and_tip(event)
  local number, tip = string.match(event or '', '^(%d+) ?(.*)$')
  return tonumber(number or 0), tip or ''
end

local number, tip = number_and_tip(redis.call('GET', newest))

local function text(number)
  return string.format('%d', number)
end

local function reached()
  return text(number) .. ' ' .. tip
end

-- The store's clock decides, so that servers whose clocks differ agree. A test
-- may send its own time.
local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- What the script has changed since its last event: by key, without the account's
-- prefix, the new values of fields. The event carries it as `images`, so that
-- the ledger can be made anew from its events. A field '' is the time when the key
-- goes, 0 for never; '!' says that what was there before is gone; false, that the field is.
local changed = {}
local root_length = #newest - #'sequence'

local function image(key)
  local name = string.sub(key, root_length + 1)
  local fields = changed[name]
  if not fields then
    fields = {}
    changed[name] = fields
  end
  return fields
end

local function note(key, ...)
  local fields = image(key)
  for i = 1, select('#', ...), 2 do
    local field, value = select(i, ...)
    fields[field] = value
  end
end

local function set(key, ...)
  redis.call('HSET', key, ...)
  note(key, ...)
end

local function unset(key, field)
  redis.call('HDEL', key, field)
  image(key)[field] = false
end

local function increase(key, field, amount)
  local value = redis.call('HINCRBY', key, field, amount)
  image(key)[field] = text(value)
  return value
end

local function keep_until(key, at)
  redis.call('PEXPIREAT', key, text(at))
  image(key)[''] = text(at)
end

local function keep_for_ever(key)
  redis.call('PERSIST', key)
  image(key)[''] = '0'
end

local function remove(key)
  redis.call('DEL', key)
  changed[string.sub(key, root_length + 1)] = {['!'] = ''}
end

-- Appends one audit event: the call it is about, as JSON, and facts, of which
-- empty ones are left out. Its number is its stream id, so a gap shows; `after` is
-- the tip of the event before it.
local function record(kind, call, facts)
  local fields = {'time', text(now), 'kind', kind, 'call', call}
  for i = 1, #facts, 2 do
    if facts[i + 1] ~= '' then
      fields[#fields + 1] = facts[i]
      fields[#fields + 1] = facts[i + 1]
    end
  end
  local last = #fields
  fields[last + 1], fields[last + 2] = 'epoch', epoch
  fields[last + 3], fields[last + 4] = 'after', tip
  fields[last + 5], fields[last + 6] = 'tip', own_tip
  if next(changed) then
    fields[last + 7], fields[last + 8] = 'images', cjson.encode(changed)
    changed = {}
  end
  number, tip = number + 1, own_tip
  redis.call('SET', newest, reached())
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

local is_there = {} -- whether a counter exists, as far as it was asked

local function add(counters, field, amount)
  for _, counter in ipairs(counters) do
    if amount > 0 then
      is_there[counter] = true
    elseif is_there[counter] == nil then
      is_there[counter] = redis.call('EXISTS', counter) == 1
    end
    -- A window that is forgotten by now gets nothing back.
    if is_there[counter] then
      increase(counter, field, text(amount))
    end
  end
end

-- Unknown holds stand behind all that have a deadline, the oldest first, and stay
-- there and in memory until somebody finds out what became of them.
local UNKNOWN_FROM = 2^52

local function await_evidence(hold, id, h, deadlines)
  redis.call('ZADD', deadlines, text(UNKNOWN_FROM + h.held_at), id)
  keep_for_ever(hold)
end

-- Marks a hold that nobody closed in time. It keeps counting.
local function become_unknown(hold, id, h, deadlines)
  set(hold, 'state', 'unknown')
  await_evidence(hold, id, h, deadlines)
  h.state = 'unknown'
  record('settlement', h.call, {
    'state', 'unknown', 'reason', 'deadline_passed', 'attempt', h.attempt, 'object_id', h.object_id,
  })
end

-- What a vault key has counted for one object of the vendor: a total in one
-- currency, and as bookings, the newest last, which part of it stands in which
-- counters. `changes` says how often a step or an observation has set it. `sealed`
-- is what caps of derived keys have counted for it, by their counters: each by itself,
-- at most what the object commits, and no part of the total.
local function read_sealed(written)
  local sealed = {}
  for counter, amount in pairs(written and cjson.decode(written) or {}) do
    sealed[counter] = tonumber(amount)
  end
  return sealed
end

local function read_exposure(key)
  local x = read(key)
  x.had_sealed, x.sealed = x.sealed, read_sealed(x.sealed)
  x.key, x.new = key, not x.total
  x.total = tonumber(x.total or 0)
  x.bookings = x.bookings and cjson.decode(x.bookings) or {}
  return x
end

local function keep_exposure(x, retention_ms)
  set(x.key, 'total', text(x.total), 'currency', x.currency,
    'bookings', cjson.encode(x.bookings), 'changes', x.changes or '0')
  if x.unpriced then
    set(x.key, 'unpriced', x.unpriced)
  end
  if x.had_sealed or next(x.sealed) then
    local written = {}
    for counter, amount in pairs(x.sealed) do
      written[counter] = text(amount)
    end
    set(x.key, 'sealed', cjson.encode(written))
  end
  if x.new then
    keep_until(x.key, now + retention_ms)
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

-- How much a cap of a derived key has counted for the object that no call under way
-- was promised.
local function unpromised_sealed(y, counter)
  return math.max(0, (y.sealed[counter] or 0) - tonumber(y.promised or 0))
end

-- Brings what a cap of a derived key counts for the object to `amount`. One that counts
-- nothing remembers that its key has taken a step.
local function count_sealed(x, counter, amount)
  local more = amount - (x.sealed[counter] or 0)
  if more ~= 0 then
    add({counter}, 'settled', more)
  end
  x.sealed[counter] = amount
end

-- Counts `surplus` less: the newest booking gives back first, each in the windows
-- where it counted. One that says where to count stays, if only with nothing in it.
-- No cap of a derived key counts more for the object than it commits.
local function give_back(x, surplus)
  x.total = x.total - surplus
  for counter, amount in pairs(x.sealed) do
    if amount > x.total then
      count_sealed(x, counter, x.total)
    end
  end
  for i = #x.bookings, 1, -1 do
    local booking = x.bookings[i]
    local booked = tonumber(booking.amount)
    local back = math.min(surplus, booked)
    if back > 0 then
      add(booking.counters, 'settled', -back)
    end
    surplus = surplus - back
    if back == booked and i > 1 and #x.bookings[i - 1].counters > 0 then
      table.remove(x.bookings, i)
    else
      booking.amount = text(booked - back)
    end
    if surplus == 0 then
      return
    end
  end
end
