
-- Begins a rebuild: takes the epoch away, so that nobody can use the ledger, if it is
-- still the one that was found lost. A rebuild that began before can write no more.
-- It comes without the guard, as do all steps of a rebuild.
--
-- KEYS  5 mark of the rebuild
-- ARGV  2 epoch and 3 newest event of the ledger that was found lost, 6 the mark to be
--
-- Status is done, with the epoch of the newest event, or moved when another rebuild
-- has done its work, or the ledger has come further, or is there again.
local present = redis.call('HGET', account_record, 'epoch')
if present and (present ~= epoch or reached() ~= ARGV[3]) then
  return {'moved', reached()}
end
redis.call('SET', KEYS[5], ARGV[6])
redis.call('HDEL', account_record, 'epoch')
local written_in = ''
for _, entry in ipairs(redis.call('XREVRANGE', stream, '+', '-', 'COUNT', '1')) do
  local fields = entry[2]
  for i = 1, #fields, 2 do
    if fields[i] == 'epoch' then
      written_in = fields[i + 1]
    end
  end
end
return {'done', reached(), written_in}
