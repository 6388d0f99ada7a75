-- Notes that the archive has the events up to one for good. Never goes back.
--
-- KEYS  1 archived
-- ARGV  1 sequence, 2 hash in hex
if tonumber(ARGV[1]) > tonumber(redis.call('HGET', KEYS[1], 'sequence') or 0) then
  redis.call('HSET', KEYS[1], 'sequence', ARGV[1], 'hash', ARGV[2])
end
return 1
