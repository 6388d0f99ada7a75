-- Records one event that goes with no change of state.
--
-- ARGV  5 kind, 6 the facts of the call as JSON
record(ARGV[5], ARGV[6], {})
return {'done', text(number)}
