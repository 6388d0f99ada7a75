-- Lets a frozen run go on, and records it.
--
-- KEYS  5 frozen runs, 6 the run's refusals
-- ARGV  6 the run within the frozen runs, 7 the facts as JSON, for the record
--
-- Status is done, or not_frozen.
if redis.call('ZREM', KEYS[5], ARGV[6]) == 0 then
  return {'not_frozen', reached()}
end
image(KEYS[5])[ARGV[6]] = false
remove(KEYS[6])
record('administration', ARGV[7], {})
return {'done', reached()}
