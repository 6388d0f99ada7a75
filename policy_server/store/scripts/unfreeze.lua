-- Lets a frozen run go on, and records it.
--
-- KEYS  5 frozen runs, 6 the run's refusals
-- ARGV  5 the run within the frozen runs, 6 the facts as JSON, for the record
--
-- Status is done, or not_frozen.
if redis.call('ZREM', KEYS[5], ARGV[5]) == 0 then
  return {'not_frozen', text(number)}
end
image(KEYS[5])[ARGV[5]] = false
remove(KEYS[6])
record('administration', ARGV[6], {})
return {'done', text(number)}
