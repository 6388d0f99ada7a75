-- Records one event that goes with no change of state.
--
-- ARGV  6 kind, 7 the facts of the call as JSON
record(ARGV[6], ARGV[7], {})
return {'done', reached()}
