-- Digests of notifications, and addresses that are not written to any more.

-- up
CREATE TABLE IF NOT EXISTS notification_digest_items (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    record_id UUID NOT NULL REFERENCES notification_records (id) ON DELETE CASCADE,
    item_key TEXT NOT NULL UNIQUE,
    data BYTEA NOT NULL,
    created_at TIMESTAMPTZ DEFAULT now() NOT NULL
);

CREATE INDEX IF NOT EXISTS ix_notification_digest_items_record_id ON notification_digest_items (record_id);

CREATE TABLE IF NOT EXISTS notification_suppressions (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    channel TEXT NOT NULL,
    address_mark TEXT NOT NULL,
    address BYTEA NOT NULL,
    category TEXT DEFAULT '*' NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT,
    created_at TIMESTAMPTZ DEFAULT now() NOT NULL,
    UNIQUE (channel, address_mark, category)
);

-- up postgresql
DO $$
DECLARE
    name TEXT;
BEGIN
    FOREACH name IN ARRAY ARRAY['notification_digest_items', 'notification_suppressions'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO fourlane_worker', name);
        EXECUTE format('DROP POLICY IF EXISTS fourlane_worker ON %I', name);
        EXECUTE format('CREATE POLICY fourlane_worker ON %I TO fourlane_worker USING (true) WITH CHECK (true)', name);
    END LOOP;
END $$;

-- down
DROP TABLE IF EXISTS notification_suppressions;
DROP TABLE IF EXISTS notification_digest_items;
