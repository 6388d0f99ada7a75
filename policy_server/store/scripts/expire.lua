-- Marks holds whose deadline has passed unknown. They keep counting.
--
-- KEYS  5 deadlines
-- ARGV  6 prefix of holds, 7 how many at most
--
-- Answers how many there were.
local deadlines, prefix = KEYS[5], ARGV[6]
local overdue = redis.call('ZRANGEBYSCORE', deadlines, '-inf', text(now), 'LIMIT', '0', ARGV[7])
for _, id in ipairs(overdue) do
  local hold = prefix .. id
  local h = read(hold)
  if h.state == 'held' then
    become_unknown(hold, id, h, deadlines)
  else
    redis.call('ZREM', deadlines, id)
  end
end
return {'done', reached(), text(#overdue)}
