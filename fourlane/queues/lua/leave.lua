-- A worker leaves: it holds nothing and will take nothing more.
-- KEYS  the service's, then the worker's leased set
-- ARGV  1 the worker's lease name
-- Reply the number of jobs it still held; it stays a member then, for its silence to be noticed
--@include keys
--@include wake

local held = redis.call('SCARD', KEYS[FIRST_OWN_KEY])
if held == 0 then redis.call('ZREM', WORKERS, ARGV[1]) end
-- It may have taken a token that it did not use.
wake_all()
return held
