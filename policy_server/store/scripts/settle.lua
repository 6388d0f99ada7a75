-- Closes one hold: moves what was held to settled, or gives it back, in the
-- windows in which it was held, brings the object's exposure to what is true
-- now, and records it.
--
-- KEYS  5 hold, 6 deadlines
-- ARGV  6 the settlement as JSON
--
-- Answers state and overrun; status is done, not_found, closed or sent_again.
local s = cjson.decode(ARGV[6])
local hold, deadlines = KEYS[5], KEYS[6]
local h = read(hold)

if not h.state then
  return {'not_found', reached(), '', ''}
end
if tonumber(h.attempt) ~= s.attempt then
  return {'closed', reached(), 'at attempt ' .. h.attempt, ''}
end

local after = ({succeeded = 'settled', failed = 'released', unknown = 'unknown'})[s.outcome]
if h.state == after or (h.state == 'settled' and after == 'unknown') then
  return {'done', reached(), h.state, h.overrun or ''}
end
-- Evidence that money moved is never refused: a released hold may still settle.
local was_released = h.state == 'released'
if h.state == 'settled' or (was_released and after ~= 'settled') then
  return {'closed', reached(), h.state, ''}
end

if s.unless_sent_after and tonumber(h.sent_at or 0) > s.unless_sent_after then
  return {'sent_again', reached(), h.state, ''}
end

local object = s.object_id ~= '' and s.object_id or h.object_id
local counted_object = s.counted_object_id ~= '' and s.counted_object_id or object
local held = tonumber(h.amount)

-- A call that failed may leave an object behind that still commits money.
local counts = after == 'settled' or (after == 'released' and s.amount)

local x = {total = 0, bookings = {}, sealed = {}}
if counts then
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
local sealed = h.sealed and cjson.decode(h.sealed)[h.currency] or {} -- what is held, by counter
local sealed_counters = {}
for counter in pairs(sealed) do
  sealed_counters[#sealed_counters + 1] = counter
end
table.sort(sealed_counters)
local links = h.links and cjson.decode(h.links) or {}
local said = s.amount and s.currency == h.currency

-- Ends this step of the object that the call named.
local function close_step()
  local step = s.exposure_prefix .. h.object_id
  if h.object_id ~= '' and not was_released and increase(step, 'open', '-1') <= 0 then
    set(step, 'open', '0', 'contended', '')
  end
end

-- Ends what other objects promised to this call. Returns those of them that stand
-- as they stood then: a step or an observation meanwhile may have said a total
-- that has this call in it already, and one under way may yet say it.
local function end_promises()
  local unchanged = {}
  for _, link in ipairs(links) do
    local y = read_exposure(s.exposure_prefix .. link.object)
    local left = tonumber(y.promised or 0) - tonumber(link.promised)
    if left >= 0 then
      y.promised, y.restores = text(left), link.restores
      set(y.key, 'promised', y.promised)
      if y.changes == link.changes and not is_busy(y) and y.currency == h.currency
        and link.object ~= counted_object then
        unchanged[#unchanged + 1] = y
      end
    end
  end
  return unchanged
end

-- Makes what other objects have counted part of this one.
local function absorb(others)
  for _, y in ipairs(others) do
    if not y.restores and tonumber(y.promised) == 0 then
      x.total = x.total + y.total
      for _, booking in ipairs(y.bookings) do
        x.bookings[#x.bookings + 1] = booking
      end
      for counter, amount in pairs(y.sealed) do
        x.sealed[counter] = (x.sealed[counter] or 0) + amount
      end
      y.total, y.bookings, y.sealed = 0, {}, {}
      set_anew(y)
      keep_exposure(y, s.retention_ms)
    end
  end
end

-- Gives back for a refund what its object has counted, `most` at most; returns how
-- much. This is no step of that object: it lowers by the refund, and sets nothing.
local function restore(others, most)
  for _, y in ipairs(others) do
    if y.restores then
      local back = math.min(most, unpromised(y))
      give_back(y, back)
      y.restored = text(tonumber(y.restored or 0) + back)
      set(y.key, 'restored', y.restored)
      keep_exposure(y, s.retention_ms)
      return back
    end
  end
  return 0
end

-- The same for a cap of a derived key, of what that cap has counted.
local function restore_sealed(others, counter, most)
  for _, y in ipairs(others) do
    if y.restores then
      local back = math.min(most, unpromised_sealed(y, counter))
      if back > 0 then
        count_sealed(y, counter, y.sealed[counter] - back)
        keep_exposure(y, s.retention_ms)
      end
      return back
    end
  end
  return 0
end

-- Brings what a cap of a derived key counts for the object to what the call has led
-- to: all of what the object commits, whoever else has counted that. Returns whether
-- it is more than was held there.
local function settle_sealed(counter, told, before, may_lower, others)
  local had, held_here = x.sealed[counter] or 0, tonumber(sealed[counter])
  local above = (told and math.max(told, before) or held_here + had - before) - had
  if above > 0 then
    above = above - (told and restore_sealed(others, counter, above) or 0)
    count_sealed(x, counter, had + above)
  elseif may_lower then
    count_sealed(x, counter, had + above)
  end
  return above > held_here
end

-- Brings exposure and counters to what the call has led to, but never below while
-- it is not sure that this outcome is the object's last: when nobody said an
-- amount, when it is a replay, when other steps were under way, or when the call
-- did not name the object, as one that makes it can't. Nor above when the call
-- held nothing: no cap would count it. Returns what is counted for the object, and
-- whether it is more than was held.
local function settle(unchanged)
  local own_step = counted_object == h.object_id
  local others = tonumber(x.open or 0) - (own_step and not was_released and 1 or 0)
  local may_lower = said and not s.stale and x.contended ~= '1' and others <= 0
  if x.currency ~= h.currency then
    x.total, x.bookings, x.sealed, x.currency, x.new = 0, {}, {}, h.currency, true
  end
  local before, before_sealed = own_step and 0 or x.total, {}
  for _, counter in ipairs(sealed_counters) do
    before_sealed[counter] = own_step and 0 or x.sealed[counter] or 0
  end
  absorb(unchanged)
  -- What refunds gave back stays given back, though the vendor tells of all that came in.
  local told = said and tonumber(s.amount) - tonumber(x.restored or 0)
  local total = told and math.max(told, before) or held + x.total - before
  local above = total - x.total
  local sealed_above = false
  for _, counter in ipairs(sealed_counters) do
    sealed_above = settle_sealed(counter, told, before_sealed[counter], may_lower, unchanged) or sealed_above
  end
  local uncounted = #counters == 0 and #sealed_counters == 0 and above > 0
  if uncounted then
    above = 0
  end
  if above > 0 or (#x.bookings == 0 and #counters + #sealed_counters > 0) then
    above = math.max(0, above)
    -- What a refund gave back elsewhere is part of it, and counts nowhere.
    local restored = said and restore(unchanged, above) or 0
    if restored > 0 then
      book(x, restored, {})
    end
    above = above - restored
    book(x, above, counters)
  elseif may_lower and above < 0 then
    give_back(x, -above)
  end
  if counted_object ~= '' and h.currency ~= '' and #x.bookings > 0 then
    set_anew(x)
    x.unpriced = h.unpriced_in and '1' or x.unpriced
    keep_exposure(x, s.retention_ms)
  end
  if uncounted and (h.object_id == '' or not own_step) then
    return total, true
  end
  return x.total, above > held or sealed_above
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
local settled_amount, reason = '', s.evidence and 'reconciled' or ''
local unchanged = {}
if after ~= 'unknown' and not was_released then
  if held > 0 then
    add(counters, 'held', -held)
  end
  for counter, held_here in pairs(sealed) do
    if tonumber(held_here) > 0 then
      add({counter}, 'held', -held_here)
    end
  end
  unchanged = end_promises()
end
if after == 'unknown' then
  await_evidence(hold, s.authorization_id, h, deadlines)
else
  redis.call('ZREM', deadlines, s.authorization_id)
  if h.state == 'unknown' then
    keep_until(hold, now + s.retention_ms)
  end
end
if counts then
  local total
  total, overrun = settle(unchanged)
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
set(hold, 'state', after, 'object_id', after == 'unknown' and h.object_id or object,
  'overrun', overrun and '1' or '')
record('settlement', h.call, {
  'state', after, 'reason', reason, 'settled_amount', settled_amount, 'settled_currency', h.currency,
  'overrun', overrun and '1' or '', 'attempt', h.attempt, 'object_id', object,
  'vendor_request_id', s.vendor_request_id, 'http_status', s.http_status, 'latency_ms', s.latency_ms,
  'detail', s.evidence or '',
})
return {'done', reached(), after, overrun and '1' or ''}
