-- Records one event that goes with no change of state.
--
-- KEYS  1 audit stream, 2 sequence
-- ARGV  1 now in ms or 0, 2 kind, 3 the facts of the call as JSON
record(KEYS[1], KEYS[2], clock(tonumber(ARGV[1])), ARGV[2], ARGV[3], {})
return 'done'
