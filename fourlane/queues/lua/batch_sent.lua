-- A batch is submitted: what its requests say is not needed any more.
-- KEYS  1 the bodies
-- ARGV  ids
-- Reply 1
local BODIES = KEYS[1]
--@include bodies

drop_bodies(ARGV)
return 1
