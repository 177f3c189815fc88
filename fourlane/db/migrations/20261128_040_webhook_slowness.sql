-- How many answers of an endpoint in a row were slow.

-- up
ALTER TABLE webhook_endpoints ADD COLUMN IF NOT EXISTS consecutive_slow BIGINT DEFAULT 0 NOT NULL;

-- up postgresql
GRANT SELECT (consecutive_slow) ON webhook_endpoints TO fourlane_web;

-- down
ALTER TABLE webhook_endpoints DROP COLUMN consecutive_slow;
