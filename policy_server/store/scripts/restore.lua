
-- Lets a ledger that was made anew be used, under its new epoch, and records that.
-- It comes without the guard, which would refuse: there is no epoch before it.
--
-- KEYS  5 mark of the rebuild
-- ARGV  6 the mark of the rebuild that wrote the ledger, 7 number of its newest
--       event, 8 the facts as JSON, for the record
--
-- Status is done, or taken when another rebuild has begun.
if redis.call('GET', KEYS[5]) ~= ARGV[6] or text(number) ~= ARGV[7] then
  return {'taken', reached()}
end
redis.call('DEL', KEYS[5])
redis.call('HSET', account_record, 'epoch', epoch)
record('administration', ARGV[8], {})
return {'done', reached()}
