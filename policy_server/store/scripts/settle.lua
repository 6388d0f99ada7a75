-- Closes one hold: moves what was held to settled, or gives it back, in the
-- windows in which it was held, brings the object's exposure to what is true
-- now, and records it.
--
-- KEYS  1 hold, 2 audit stream, 3 sequence, 4 deadlines
-- ARGV  1 the settlement as JSON
--
-- Answers a flat list: status, state, overrun; status is done, not_found or closed.
local s = cjson.decode(ARGV[1])
local hold, stream, sequence, deadlines = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local now = clock(s.now)
local h = read(hold)

if not h.state then
  return {'not_found', '', ''}
end
if tonumber(h.attempt) ~= s.attempt then
  return {'closed', 'at attempt ' .. h.attempt, ''}
end

local after = ({succeeded = 'settled', failed = 'released', unknown = 'unknown'})[s.outcome]
if h.state == after or (h.state == 'settled' and after == 'unknown') then
  return {'done', h.state, h.overrun or ''}
end
-- Evidence that money moved is never refused: a released hold may still settle.
if h.state == 'settled' or (h.state == 'released' and after ~= 'settled') then
  return {'closed', h.state, ''}
end

-- A step that holds nothing, such as a cancel, learns the currency from its outcome.
if h.currency == '' and s.currency then
  h.currency = s.currency
end
local held = tonumber(h.amount)
local counters = cjson.decode(h.counters)

-- The newest booking gives back first; each in the windows where it counted.
local function give_back(bookings, surplus)
  while surplus > 0 and #bookings > 0 do
    local booking = bookings[#bookings]
    local booked = tonumber(booking.amount)
    local back = math.min(surplus, booked)
    add(booking.counters, 'settled', -back)
    booking.amount = text(booked - back)
    if back == booked then
      bookings[#bookings] = nil
    end
    surplus = surplus - back
  end
end

-- Ends this step of the object that the call named.
local function close_step()
  local step = s.exposure_prefix .. h.object_id
  if h.object_id ~= '' and h.state ~= 'released' and redis.call('HINCRBY', step, 'open', '-1') <= 0 then
    redis.call('HSET', step, 'open', '0', 'contended', '')
  end
end

-- Brings exposure and counters to `total`, but never below while it is not sure
-- that this outcome is the object's last: when it is a replay, or other steps
-- were under way. Returns what the object commits, and whether it is more than
-- was held.
local function settle_at(total, object)
  local exposure = s.exposure_prefix .. object
  local x = object ~= '' and read(exposure) or {}
  local others = tonumber(x.open or 0) - (object == h.object_id and h.state ~= 'released' and 1 or 0)
  local may_lower = not s.stale and x.contended ~= '1' and others <= 0
  if x.currency and x.currency ~= h.currency then
    x = {}
  end
  local before = tonumber(x.total or 0)
  if not may_lower then
    total = math.max(total, before)
  end
  local bookings = x.bookings and cjson.decode(x.bookings) or {}
  local own = math.max(0, total - before)
  if own > 0 then
    add(counters, 'settled', own)
    bookings[#bookings + 1] = {amount = text(own), counters = counters}
  elseif total < before then
    give_back(bookings, before - total)
  end
  if object ~= '' then
    redis.call('HSET', exposure, 'total', text(total), 'currency', h.currency, 'bookings', cjson.encode(bookings))
    if not x.total then
      redis.call('PEXPIREAT', exposure, text(now + s.retention_ms))
    end
  end
  return total, own > held
end

local object = s.object_id ~= '' and s.object_id or h.object_id
local overrun = false
local settled_amount, reason = '', ''
if after ~= 'unknown' then
  if h.state ~= 'released' then
    add(counters, 'held', -held)
  end
end
redis.call('ZREM', deadlines, s.authorization_id)
if after == 'settled' then
  local total
  if s.amount and s.currency == h.currency then
    total = tonumber(s.amount)
  else
    -- Nothing was said of the amount: what was held is what counts.
    local x = object ~= '' and h.object_id == object
      and tonumber(redis.call('HGET', s.exposure_prefix .. object, 'total') or 0) or 0
    total = x + held
  end
  total, overrun = settle_at(total, object)
  overrun = overrun or h.state == 'released'
  if s.amount and s.currency ~= h.currency and tonumber(s.amount) > 0 then
    -- No cap of this hold counts that currency: people must look at it.
    overrun, reason = true, 'currency_not_held'
  end
  settled_amount = text(total)
end

if after ~= 'unknown' then
  close_step()
end
redis.call('HSET', hold, 'state', after, 'object_id', after == 'unknown' and h.object_id or object,
  'overrun', overrun and '1' or '')
record(stream, sequence, now, 'settlement', h.call, {
  'state', after, 'reason', reason, 'settled_amount', settled_amount, 'settled_currency', h.currency,
  'overrun', overrun and '1' or '', 'attempt', h.attempt, 'object_id', object,
  'vendor_request_id', s.vendor_request_id, 'http_status', s.http_status, 'latency_ms', s.latency_ms,
})
return {'done', after, overrun and '1' or ''}
