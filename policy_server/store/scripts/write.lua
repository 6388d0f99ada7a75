
-- Carries out commands of a rebuild, if no other rebuild has begun meanwhile.
--
-- KEYS  5 mark of the rebuild; then every key that the commands name
-- ARGV  6 the mark of this rebuild; then of each command how many parts it has, and
--       its parts
--
-- Status is done, or taken when another rebuild has begun.
if redis.call('GET', KEYS[5]) ~= ARGV[6] then
  return {'taken', reached()}
end
local at = 7
while at <= #ARGV do
  local last = at + tonumber(ARGV[at])
  redis.call(unpack(ARGV, at + 1, last))
  at = last + 1
end
return {'done', reached()}
