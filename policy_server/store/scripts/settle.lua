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
local was_released = h.state == 'released'
if h.state == 'settled' or (was_released and after ~= 'settled') then
  return {'closed', h.state, ''}
end

local object = s.object_id ~= '' and s.object_id or h.object_id
local counted_object = s.counted_object_id ~= '' and s.counted_object_id or object
local held = tonumber(h.amount)

local x = {total = 0, bookings = {}}
if after == 'settled' then
  if counted_object ~= '' then
    x = read_exposure(s.exposure_prefix .. counted_object)
  end
  -- A step that holds nothing, such as a cancel, learns the currency from its
  -- outcome, or from its object.
  if h.currency == '' then
    h.currency = s.currency or x.currency or ''
  end
end
local counters = cjson.decode(h.counters)[h.currency] or {}
local said = s.amount and s.currency == h.currency

-- Ends this step of the object that the call named.
local function close_step()
  local step = s.exposure_prefix .. h.object_id
  if h.object_id ~= '' and not was_released and redis.call('HINCRBY', step, 'open', '-1') <= 0 then
    redis.call('HSET', step, 'open', '0', 'contended', '')
  end
end

-- Brings exposure and counters to what the call has led to, but never below while
-- it is not sure that this outcome is the object's last: when nobody said an
-- amount, when it is a replay, or when other steps were under way. Returns what
-- the object commits, and whether it is more than was held.
local function settle()
  local own_step = counted_object == h.object_id
  local others = tonumber(x.open or 0) - (own_step and not was_released and 1 or 0)
  local may_lower = said and not s.stale and x.contended ~= '1' and others <= 0
  if x.currency ~= h.currency then
    x.total, x.bookings, x.currency, x.new = 0, {}, h.currency, true
  end
  local total = said and tonumber(s.amount) or held + (own_step and x.total or 0)
  local above = total - x.total
  if above > 0 or #x.bookings == 0 then
    book(x, math.max(0, above), counters)
  elseif may_lower then
    give_back(x, -above)
  end
  if counted_object ~= '' then
    set_anew(x)
    keep_exposure(x, now, s.retention_ms)
  end
  return x.total, above > held
end

-- Whether a call without an amount may move `currency`, so that its caps count it.
local function may_move(currency)
  for _, one in ipairs(cjson.decode(h.unpriced_in)) do
    if one == currency then
      return true
    end
  end
  return false
end

local overrun = false
local settled_amount, reason = '', ''
if after ~= 'unknown' and not was_released and held > 0 then
  add(counters, 'held', -held)
end
redis.call('ZREM', deadlines, s.authorization_id)
if after == 'settled' then
  local total
  total, overrun = settle()
  if h.unpriced_in then
    -- It held nothing and is marked as such; but somebody must say what it moved.
    overrun = not s.amount
  end
  overrun = overrun or was_released
  local counted = said and (not h.unpriced_in or may_move(h.currency))
  if s.amount and not counted and tonumber(s.amount) > 0 then
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
