-- Brings what is counted for one object to what somebody saw that it commits for
-- good, and records it. What the key has not counted, or in another currency, or
-- counts already, changes nothing.
--
-- KEYS  1 exposure, 2 audit stream, 3 sequence
-- ARGV  1 the observation as JSON, 2 the facts of it as JSON, for the record
--
-- Answers whether anything changed: 1 or nothing.
local o = cjson.decode(ARGV[1])
local x = read_exposure(KEYS[1])
local now = clock(o.now)
-- What refunds gave back stays given back, though the vendor tells of all that came in.
local total = math.max(0, tonumber(o.amount) - tonumber(x.restored or 0))

if #x.bookings == 0 or x.currency ~= o.currency or total == x.total then
  return ''
end
-- Of a call that nobody could price, the amount is only known now.
local overrun = total > x.total and x.unpriced ~= '1'
if total > x.total then
  book(x, total - x.total, x.bookings[#x.bookings].counters)
elseif is_busy(x) or tonumber(x.promised or 0) > 0 then
  return ''
else
  give_back(x, x.total - total)
end
set_anew(x)
keep_exposure(x, now, o.retention_ms)
record(KEYS[2], KEYS[3], now, 'settlement', ARGV[2], {
  'reason', 'observed', 'settled_amount', text(tonumber(o.amount)), 'settled_currency', x.currency,
  'overrun', overrun and '1' or '',
})
return '1'
