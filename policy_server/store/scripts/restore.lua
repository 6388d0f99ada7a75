
-- Lets a ledger that was made anew be used, under its new epoch, and records that.
-- It comes without the guard, which would refuse: there is no epoch before it.
--
-- KEYS  5 mark of the rebuild
-- ARGV  5 the mark of the rebuild that wrote the ledger, 6 number of its newest
--       event, 7 the facts as JSON, for the record
--
-- Status is done, or taken when another rebuild has begun.
if redis.call('GET', KEYS[5]) ~= ARGV[5] or text(number) ~= ARGV[6] then
  return {'taken', text(number)}
end
redis.call('DEL', KEYS[5])
redis.call('HSET', account_record, 'epoch', epoch)
record('administration', ARGV[7], {})
return {'done', text(number)}
