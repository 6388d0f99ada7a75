-- Records one event that goes with no change of state.
--
-- KEYS  1 audit stream, 2 sequence
-- ARGV  1 now in ms or 0, 2... the event's fields
local fields = {}
for i = 2, #ARGV do
  fields[#fields + 1] = ARGV[i]
end
record(KEYS[1], KEYS[2], clock(tonumber(ARGV[1])), fields)
return 'done'
