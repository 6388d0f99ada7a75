-- Changes one record, a vault key's or an account's, and records the change.
--
-- KEYS  1 record, 2 audit stream, 3 sequence, 4 key ids, 5 key names
-- ARGV  1 the change as JSON: now, expected version, set, unset; for
--       vault keys also key_id, name, and working (whether the name is taken)
--       2 what was changed as JSON, for the record
--
-- Answers status and version; status is done, conflict or name_taken.
local c = cjson.decode(ARGV[1])
local target, stream, sequence, key_ids, key_names = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local now = clock(c.now)
local version = tonumber(redis.call('HGET', target, 'version') or 0)
if version ~= c.expected then
  return {'conflict', text(version)}
end
if c.key_id then
  local owner = redis.call('HGET', key_names, c.name)
  if owner and owner ~= c.key_id then
    return {'name_taken', text(version)}
  end
  if c.working then
    redis.call('HSET', key_names, c.name, c.key_id)
  else
    redis.call('HDEL', key_names, c.name)
  end
  redis.call('ZADD', key_ids, 'NX', text(now), c.key_id)
end
if #c.unset > 0 then
  redis.call('HDEL', target, unpack(c.unset))
end
redis.call('HSET', target, 'version', text(version + 1), unpack(c.set))
record(stream, sequence, now, 'administration', ARGV[2], {})
return {'done', text(version + 1)}
