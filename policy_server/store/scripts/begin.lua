
-- Gives an account without a ledger one, unless a rebuild is about to.
-- It comes without the guard, which would refuse: there is no epoch before it.
--
-- KEYS  5 mark of a rebuild
-- ARGV  2 epoch to be
--
-- Status is done, with the epoch that there is now, or lost.
if redis.call('EXISTS', KEYS[5]) == 1 then
  return {'lost', text(number)}
end
redis.call('HSETNX', account_record, 'epoch', epoch)
return {'done', text(number), redis.call('HGET', account_record, 'epoch')}
