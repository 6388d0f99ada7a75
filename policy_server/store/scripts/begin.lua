-- Gives an account its ledger, unless there is one, or was. It comes without the
-- guard: before it, there is none to be known.
--
-- Answers the epoch, '' where a ledger was lost; status is done.
if number == 0 and redis.call('EXISTS', stream) == 0 then
  redis.call('HSETNX', account_record, 'epoch', epoch)
end
return {'done', reached(), redis.call('HGET', account_record, 'epoch') or ''}
