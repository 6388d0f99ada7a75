-- Decides on one call: the records are the ones that were judged by, the effect
-- is new, every cap has room; then holds in all caps or in none, and records it.
--
-- KEYS  5 key record, 6 hold, 7 exposure, 8 deadlines, 9... one counter a cap; where
--       the policy bounds repeated refusals in a run, then the run's refusals and the
--       frozen runs
-- ARGV  6 the question as JSON, 7 the facts of the call as JSON, for the record
--
-- Answers
--   decided: allowed, reason, rule, attempt, duplicate, replay, object,
--            deadline, shadow reason, amount and currency that the first call asked
--            for, whether this refusal froze the run; of each cap settled, held, and what
--            the call takes of it, once that is known
--   out_of_span: now
--   stale: nothing
local q, call = cjson.decode(ARGV[6]), ARGV[7]
local key_record, hold, exposure, deadlines = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local counters = {unpack(KEYS, 9)}

if q.key_version > 0 and tonumber(redis.call('HGET', key_record, 'version') or 0) ~= q.key_version then
  return {'stale', reached()}
end
if q.epoch ~= epoch or tonumber(account[2] or 0) ~= q.account_version then
  return {'stale', reached()}
end
if q.expires_at_ms and (now >= q.expires_at_ms) ~= q.expired then
  return {'out_of_span', reached(), text(now)}
end
for _, cap in ipairs(q.caps) do
  if now < cap.start_ms or (cap.end_ms > 0 and now >= cap.end_ms) then
    return {'out_of_span', reached(), text(now)}
  end
end

local h = {}
if q.effect then
  h = read(hold)
  if h.state == 'held' and tonumber(h.deadline) <= now then
    if q.validate_only then
      h.state = 'unknown'
    else
      become_unknown(hold, q.authorization_id, h, deadlines)
    end
  end
end

local counts, new = {}, {}
for i in ipairs(q.caps) do
  local pair = redis.call('HMGET', counters[i], 'settled', 'held')
  new[i] = not (pair[1] or pair[2])
  counts[i] = {tonumber(pair[1] or 0), tonumber(pair[2] or 0)}
end

local attempt = tonumber(h.attempt or 0)

-- Where the policy bounds repeated refusals, and the call names a run.
local refusals, frozen_runs
if q.repeated_refusals_max then
  refusals, frozen_runs = KEYS[9 + #q.caps], KEYS[10 + #q.caps]
end

-- How long after its last refusal a run that is not frozen has its refusals counted.
local REFUSALS_KEPT_MS = 3600 * 1000
local froze = false

-- Counts one more refusal of the same call in the run. One too many freezes the run.
local function count_refusal(reason)
  local same = reason .. ' ' .. q.same_call
  if redis.call('HLEN', refusals) >= q.refusals_kept and redis.call('HEXISTS', refusals, same) == 0 then
    same = 'others'
  end
  local times = increase(refusals, same, '1')
  if times < q.repeated_refusals_max then
    -- Most runs are never frozen, and anybody with a key can begin new ones.
    if not redis.call('HGET', refusals, 'frozen_for') then
      keep_until(refusals, now + math.min(q.retention_ms, REFUSALS_KEPT_MS))
    end
    return ''
  end
  keep_until(refusals, now + q.retention_ms)
  set(refusals, 'frozen_for', reason, 'frozen_at_endpoint', q.endpoint)
  for _, run in ipairs(redis.call('ZRANGEBYSCORE', frozen_runs, '-inf', text(now - q.retention_ms))) do
    redis.call('ZREM', frozen_runs, run)
    image(frozen_runs)[run] = false
  end
  redis.call('ZADD', frozen_runs, text(now), q.run)
  image(frozen_runs)[q.run] = text(now)
  froze = true
  return 'froze the run: this call was refused ' .. text(times) .. ' times in it'
end

-- Why the run is frozen, if it is.
local function frozen_for()
  local since = frozen_runs and redis.call('ZSCORE', frozen_runs, q.run)
  if since and tonumber(since) > now - q.retention_ms then
    return redis.call('HGET', refusals, 'frozen_for') or ''
  end
end

local takes = {} -- how much the call takes of each cap, once that is known
local function answer(allowed, reason, rule, duplicate, replay, object, deadline)
  local flat = {
    'decided', reached(), allowed and '1' or '', reason or '', rule or '', text(attempt), duplicate and '1' or '',
    replay or '', object or '', deadline or '0', q.shadow_reason or '', '', '', froze and '1' or '',
  }
  if duplicate then
    local first = cjson.decode(h.call)
    flat[12], flat[13] = first.amount or '', first.currency or ''
  end
  for i, pair in ipairs(counts) do
    flat[#flat + 1] = text(pair[1])
    flat[#flat + 1] = text(pair[2])
    flat[#flat + 1] = takes[i] and text(takes[i]) or ''
  end
  return flat
end

local function decided(allowed, reason, rule, duplicate, replay, object, deadline)
  if not q.validate_only then
    local refused = reason or q.shadow_reason
    local detail = refusals and refused and refused ~= 'run_frozen' and count_refusal(refused) or ''
    record('decision', call, {
      'decision', allowed and 'allow' or 'deny', 'reason', reason or q.shadow_reason or '',
      'rule', rule or q.shadow_rule or '', 'duplicate', duplicate and '1' or '',
      'attempt', attempt > 0 and text(attempt) or '', 'object_id', object or '', 'detail', detail,
    })
  end
  return answer(allowed, reason, rule, duplicate, replay, object, deadline)
end

local frozen = frozen_for()
if frozen and q.shadow then
  q.shadow_reason, q.shadow_rule = 'run_frozen', frozen
elseif frozen then
  return decided(false, 'run_frozen', frozen)
end

if q.reason then
  return decided(false, q.reason, q.rule)
end

-- A repeat of a known effect never touches a cap.
if h.state and h.state ~= 'released' then
  if h.fingerprint ~= q.fingerprint then
    return decided(false, 'idempotency_mismatch')
  end
  if h.state == 'held' and q.request_id ~= '' and h.request_id == q.request_id then
    return answer(true, nil, nil, false, nil, h.object_id, h.deadline)
  end
  local young = now - tonumber(h.held_at) < q.replay_ms
  if h.state == 'held' then
    return decided(true, nil, nil, true, 'join', h.object_id, h.deadline)
  elseif young then
    if not q.validate_only then
      -- Later than any sending before, also when the clock was set back: whoever has
      -- found that those never arrived must not close this one.
      local before = math.max(tonumber(h.deadline), tonumber(h.sent_at or 0))
      set(hold, 'sent_at', text(math.max(now, before + 1)))
      if cjson.decode(h.call).sender ~= cjson.decode(call).sender then
        -- Nobody's credentials alone show what became of all sendings.
        set(hold, 'several_senders', '1')
      end
    end
    return decided(true, nil, nil, true, 'forward', h.object_id)
  elseif h.state == 'settled' and h.object_id ~= '' then
    return decided(true, nil, nil, true, 'fetch', h.object_id)
  end
  return decided(false, 'effect_too_old')
end

if q.amount_unknown then
  return decided(false, 'amount_unknown')
end

local shadow_reason, shadow_rule = q.shadow_reason, q.shadow_rule
local function refuse(reason, rule)
  if q.shadow then
    shadow_reason, shadow_rule = shadow_reason or reason, shadow_rule or rule
    return false
  end
  return true
end

if q.call_rule and (q.call_sealed or refuse('cap_exceeded', q.call_rule)) then
  return decided(false, 'cap_exceeded', q.call_rule)
end

-- An object counts once over all its steps: only what is above its exposure is new.
local amount = tonumber(q.amount)
local x = q.object_id ~= '' and read(exposure) or {}
if x.currency == q.currency then
  amount = math.max(0, amount - unpromised(x))
end

-- For a cap of a derived key only what that cap itself has counted: else a key could
-- move with a small cap what another key has counted.
local sealed = {}
for i, cap in ipairs(q.caps) do
  if cap.sealed and cap.currency ~= '' then
    sealed[i] = tonumber(q.amount)
  end
end
local function lean_sealed(y, most)
  for i, need in pairs(sealed) do
    sealed[i] = math.max(0, need - math.min(most, unpromised_sealed(y, counters[i])))
  end
end
if x.currency == q.currency then
  lean_sealed({sealed = read_sealed(x.sealed), promised = x.promised}, math.huge)
end

-- Nor is held what the call takes over from objects that it absorbs, or gives back
-- to the one that it refunds. That much is promised to it, so that no other call
-- counts on it too. An object with a step under way promises nothing.
local links = {}
local function lean_on(object, most, restores)
  local values = redis.call('HMGET', q.exposure_prefix .. object,
    'total', 'currency', 'promised', 'open', 'contended', 'changes', 'sealed')
  local y = {
    total = values[1], currency = values[2], promised = values[3],
    open = values[4], contended = values[5], changes = values[6] or '0', sealed = read_sealed(values[7]),
  }
  if is_busy(y) or (q.currency ~= '' and y.currency ~= q.currency) then
    return 0
  end
  local promised = math.min(most, unpromised(y))
  if promised > 0 then
    links[#links + 1] = {
      object = object, promised = text(promised), changes = y.changes, restores = restores,
    }
    lean_sealed(y, promised)
  end
  return promised
end

for _, object in ipairs(q.absorbed or {}) do
  amount = math.max(0, amount - lean_on(object, math.huge, false))
end
if q.restored and q.restored ~= '' then
  amount = math.max(0, amount - lean_on(q.restored, q.currency == '' and math.huge or amount, true))
end

for i, cap in ipairs(q.caps) do
  takes[i] = cap.currency == '' and 1 or sealed[i] or amount
end
for i, cap in ipairs(q.caps) do
  local need = cap.currency ~= '' and q.unpriced_in and 1 or takes[i]
  if need > 0 and need > tonumber(cap.limit) - counts[i][1] - counts[i][2]
    and (cap.sealed or refuse('cap_exceeded', cap.rule)) then
    return decided(false, 'cap_exceeded', cap.rule)
  end
end
q.shadow_reason, q.shadow_rule = shadow_reason, shadow_rule

if q.validate_only then
  return answer(true)
end

local held_in, held_sealed = {}, {} -- by currency: counters, and what is held in those of derived keys
for i, cap in ipairs(q.caps) do
  local counter = counters[i]
  if cap.currency ~= '' then
    -- Also when nothing is held: what is settled above the hold counts here.
    counts[i][2] = counts[i][2] + takes[i]
    increase(counter, 'held', text(takes[i]))
    if cap.sealed then
      held_sealed[cap.currency] = held_sealed[cap.currency] or {}
      held_sealed[cap.currency][counter] = text(takes[i])
    else
      held_in[cap.currency] = held_in[cap.currency] or {}
      table.insert(held_in[cap.currency], counter)
    end
  else
    -- A call that was let through stays counted, whatever becomes of it.
    counts[i][1] = counts[i][1] + 1
    increase(counter, 'settled', '1')
  end
  if (new[i] or cap.end_ms == 0) and not cap.lasting then
    keep_until(counter, (cap.end_ms > 0 and cap.end_ms or now) + q.retention_ms)
  end
end

if not q.effect then
  return decided(true)
end
if q.object_id ~= '' then
  -- Two steps under way on one object: nobody knows which the vendor did last.
  local open = increase(exposure, 'open', '1')
  if open > 1 then
    set(exposure, 'contended', '1')
  elseif not x.open then
    keep_until(exposure, now + q.retention_ms)
  end
end

attempt = attempt + 1
local deadline = now + q.hold_ttl_ms
if h.state then
  remove(hold)
end
local fields = {
  'state', 'held', 'attempt', text(attempt), 'fingerprint', q.fingerprint, 'request_id', q.request_id,
  'held_at', text(now), 'deadline', text(deadline), 'amount', text(amount), 'currency', q.currency,
  'counters', cjson.encode(held_in), 'object_id', q.object_id,
}
if q.unpriced_in then
  fields[#fields + 1] = 'unpriced_in'
  fields[#fields + 1] = cjson.encode(q.unpriced_in)
end
if next(held_sealed) then
  fields[#fields + 1] = 'sealed'
  fields[#fields + 1] = cjson.encode(held_sealed)
end
if #links > 0 then
  fields[#fields + 1] = 'links'
  fields[#fields + 1] = cjson.encode(links)
  for _, link in ipairs(links) do
    increase(q.exposure_prefix .. link.object, 'promised', link.promised)
  end
end
redis.call('HSET', hold, 'call', call, unpack(fields))
note(hold, unpack(fields)) -- and not the call, which the event has anyway
keep_until(hold, now + q.retention_ms)
redis.call('ZADD', deadlines, text(deadline), q.authorization_id)
return decided(true, nil, nil, false, nil, q.object_id, text(deadline))
