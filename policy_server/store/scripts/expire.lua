-- Marks holds whose deadline has passed unknown. They keep counting.
--
-- KEYS  1 deadlines, 2 audit stream, 3 sequence
-- ARGV  1 now in ms or 0, 2 prefix of holds, 3 how many at most
--
-- Answers how many there were.
local deadlines, stream, sequence = KEYS[1], KEYS[2], KEYS[3]
local now = clock(tonumber(ARGV[1]))
local overdue = redis.call('ZRANGEBYSCORE', deadlines, '-inf', text(now), 'LIMIT', '0', ARGV[3])
for _, id in ipairs(overdue) do
  local hold = ARGV[2] .. id
  local h = read(hold)
  if h.state == 'held' then
    become_unknown(hold, id, h, deadlines, stream, sequence, now)
  else
    redis.call('ZREM', deadlines, id)
  end
end
return #overdue
