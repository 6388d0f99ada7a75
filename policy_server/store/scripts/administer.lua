-- Changes one record, a vault key's or an account's, and records the change.
--
-- KEYS  5 record, 6 key ids, 7 key names
-- ARGV  6 the change as JSON: expected version, the epoch in which that was read, set,
--       unset; for vault keys also key_id, name, and working (whether the name is taken)
--       7 what was changed as JSON, for the record
--
-- Answers the version; status is done, conflict or name_taken.
local c = cjson.decode(ARGV[6])
local target, key_ids, key_names = KEYS[5], KEYS[6], KEYS[7]
local version = tonumber(redis.call('HGET', target, 'version') or 0)
if version ~= c.expected or (c.epoch and c.epoch ~= epoch) then
  return {'conflict', reached(), text(version)}
end
if c.key_id then
  local owner = redis.call('HGET', key_names, c.name)
  if owner and owner ~= c.key_id then
    return {'name_taken', reached(), text(version)}
  end
  if c.working then
    set(key_names, c.name, c.key_id)
  else
    unset(key_names, c.name)
  end
  if redis.call('ZADD', key_ids, 'NX', text(now), c.key_id) == 1 then
    image(key_ids)[c.key_id] = text(now)
  end
end
for _, field in ipairs(c.unset) do
  unset(target, field)
end
set(target, 'version', text(version + 1), unpack(c.set))
record('administration', ARGV[7], {})
return {'done', reached(), text(version + 1)}
