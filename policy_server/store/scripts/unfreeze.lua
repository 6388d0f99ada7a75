-- Lets a frozen run go on, and records it.
--
-- KEYS  1 frozen runs, 2 the run's refusals, 3 audit stream, 4 sequence
-- ARGV  1 now in ms or 0, 2 the run within the frozen runs, 3 the facts as JSON, for the record
--
-- Answers done, or not_frozen.
if redis.call('ZREM', KEYS[1], ARGV[2]) == 0 then
  return 'not_frozen'
end
redis.call('DEL', KEYS[2])
record(KEYS[3], KEYS[4], clock(tonumber(ARGV[1])), 'administration', ARGV[3], {})
return 'done'
