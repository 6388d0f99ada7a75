-- Marks holds whose deadline has passed unknown. They keep counting.
--
-- KEYS  5 deadlines
-- ARGV  5 prefix of holds, 6 how many at most
--
-- Answers how many there were.
local deadlines, prefix = KEYS[5], ARGV[5]
local overdue = redis.call('ZRANGEBYSCORE', deadlines, '-inf', text(now), 'LIMIT', '0', ARGV[6])
for _, id in ipairs(overdue) do
  local hold = prefix .. id
  local h = read(hold)
  if h.state == 'held' then
    become_unknown(hold, id, h, deadlines)
  else
    redis.call('ZREM', deadlines, id)
  end
end
return {'done', text(number), text(#overdue)}
