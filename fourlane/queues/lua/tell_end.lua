-- Tell who waits for a result of an end that brought none.
-- KEYS  1 the result's key
-- ARGV  1 value for who waits, 2 milliseconds to keep it
-- Reply 1
--@include waiters

tell_waiters(KEYS[1], ARGV[1], ARGV[2])
return 1
