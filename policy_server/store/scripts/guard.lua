
-- Nothing is decided or changed in another ledger than the one that the server
-- knows, nor in one that lacks an event of it: an older state, or one that has gone
-- on from there with other events. Such a ledger loses its epoch, so that those
-- whom what is missing has not reached yet stop too.
local account = redis.call('HMGET', account_record, 'epoch', 'version')
if epoch ~= '' and account[1] ~= epoch then
  return {'lost', reached(), account[1] or ''}
end
local known_number, known_tip = number_and_tip(ARGV[3])

-- nil when the event is too old to be kept here.
local function has_known()
  if number < known_number then
    return false
  elseif known_tip == '' then
    return true
  elseif number == known_number then
    return tip == known_tip
  end
  local id = text(known_number) .. '-0'
  local found = redis.call('XRANGE', stream, id, id)[1]
  if not found then
    return nil
  end
  local fields = found[2]
  for i = #fields - 1, 1, -2 do
    if fields[i] == 'tip' then
      return fields[i + 1] == known_tip
    end
  end
  return false
end

local known_is_here = has_known()
if known_is_here == false then
  redis.call('HDEL', account_record, 'epoch')
  return {'lost', reached(), epoch}
elseif known_is_here == nil then
  return {'behind', reached(), epoch}
end
-- What would have to be recorded has room, or nothing is done.
local room = tonumber(ARGV[4])
if room > 0 and number - tonumber(redis.call('HGET', archived, 'sequence') or 0) >= room then
  return {'full', reached()}
end
