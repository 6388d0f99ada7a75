
-- Nothing is decided or changed in another ledger than the one that the server
-- knows, nor in an older state of it than it has seen.
local account = redis.call('HMGET', account_record, 'epoch', 'version')
if account[1] ~= epoch or number < tonumber(ARGV[3]) then
  return {'lost', text(number)}
end
-- What would have to be recorded has room, or nothing is done.
local room = tonumber(ARGV[4])
if room > 0 and number - tonumber(redis.call('HGET', archived, 'sequence') or 0) >= room then
  return {'full', text(number)}
end
