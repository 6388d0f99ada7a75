-- Brings what is counted for one object to what somebody saw that it commits for
-- good, and records it. What the key has not counted, or in another currency, or
-- counts already, changes nothing.
--
-- KEYS  5 exposure
-- ARGV  6 the observation as JSON, 7 the facts of it as JSON, for the record
--
-- Status is done, or same when nothing changed.
local o = cjson.decode(ARGV[6])
local x = read_exposure(KEYS[5])
-- What refunds gave back stays given back, though the vendor tells of all that came in.
local total = math.max(0, tonumber(o.amount) - tonumber(x.restored or 0))

if #x.bookings == 0 or x.currency ~= o.currency or total == x.total then
  return {'same', reached()}
end
-- Of a call that nobody could price, the amount is only known now.
local overrun = total > x.total and x.unpriced ~= '1'
if total > x.total then
  -- A cap of a derived key that has counted all of the object counts this too.
  for counter, amount in pairs(x.sealed) do
    if amount >= x.total then
      count_sealed(x, counter, total)
    end
  end
  book(x, total - x.total, x.bookings[#x.bookings].counters)
elseif is_busy(x) or tonumber(x.promised or 0) > 0 then
  return {'same', reached()}
else
  give_back(x, x.total - total)
end
set_anew(x)
keep_exposure(x, o.retention_ms)
record('settlement', ARGV[7], {
  'reason', 'observed', 'settled_amount', text(tonumber(o.amount)), 'settled_currency', x.currency,
  'overrun', overrun and '1' or '',
})
return {'done', reached()}
