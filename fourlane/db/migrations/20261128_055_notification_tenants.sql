-- Notifications by tenant: keys, wishes and suppressed addresses of one are nothing to another. Emails in batches.

-- up
ALTER TABLE notification_records ADD COLUMN IF NOT EXISTS tenant TEXT DEFAULT '' NOT NULL;
ALTER TABLE notification_records ADD COLUMN IF NOT EXISTS batch TEXT;
ALTER TABLE notification_preferences ADD COLUMN IF NOT EXISTS tenant TEXT DEFAULT '' NOT NULL;
ALTER TABLE notification_suppressions ADD COLUMN IF NOT EXISTS tenant TEXT DEFAULT '' NOT NULL;

-- up postgresql
UPDATE notification_records SET tenant = organization_id::text WHERE organization_id IS NOT NULL AND tenant = '';

-- Wishes and addresses from before held for all (''), and go on doing so.
ALTER TABLE notification_preferences
    DROP CONSTRAINT IF EXISTS notification_preferences_user_id_channel_category_key;
ALTER TABLE notification_suppressions
    DROP CONSTRAINT IF EXISTS notification_suppressions_channel_address_mark_category_key;

-- up sqlite
UPDATE notification_records SET tenant =
    substr(organization_id, 1, 8) || '-' || substr(organization_id, 9, 4) || '-' || substr(organization_id, 13, 4)
    || '-' || substr(organization_id, 17, 4) || '-' || substr(organization_id, 21)
    WHERE organization_id IS NOT NULL AND tenant = '';

DROP TABLE IF EXISTS notification_preferences_anew;
CREATE TABLE notification_preferences_anew (
    id CHAR(32) PRIMARY KEY DEFAULT (lower(hex(randomblob(16)))),
    organization_id CHAR(32) REFERENCES organizations (id) ON DELETE CASCADE,
    user_id CHAR(32) NOT NULL,
    channel TEXT NOT NULL,
    category TEXT DEFAULT '*' NOT NULL,
    enabled BOOLEAN DEFAULT true NOT NULL,
    quiet_from TEXT,
    quiet_until TEXT,
    time_zone TEXT DEFAULT 'UTC' NOT NULL,
    tenant TEXT DEFAULT '' NOT NULL,
    created_at DATETIME DEFAULT (strftime('%Y-%m-%d %H:%M:%f000', 'now')) NOT NULL,
    updated_at DATETIME DEFAULT (strftime('%Y-%m-%d %H:%M:%f000', 'now')) NOT NULL
);
INSERT INTO notification_preferences_anew
    SELECT id, organization_id, user_id, channel, category, enabled, quiet_from, quiet_until, time_zone, tenant,
        created_at, updated_at
    FROM notification_preferences;
DROP TABLE notification_preferences;
ALTER TABLE notification_preferences_anew RENAME TO notification_preferences;
CREATE INDEX ix_notification_preferences_organization_id ON notification_preferences (organization_id);

DROP TABLE IF EXISTS notification_suppressions_anew;
CREATE TABLE notification_suppressions_anew (
    id CHAR(32) PRIMARY KEY DEFAULT (lower(hex(randomblob(16)))),
    channel TEXT NOT NULL,
    address_mark TEXT NOT NULL,
    address BLOB NOT NULL,
    category TEXT DEFAULT '*' NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT,
    tenant TEXT DEFAULT '' NOT NULL,
    created_at DATETIME DEFAULT (strftime('%Y-%m-%d %H:%M:%f000', 'now')) NOT NULL
);
INSERT INTO notification_suppressions_anew
    SELECT id, channel, address_mark, address, category, reason, detail, tenant, created_at
    FROM notification_suppressions;
DROP TABLE notification_suppressions;
ALTER TABLE notification_suppressions_anew RENAME TO notification_suppressions;

-- up
CREATE UNIQUE INDEX IF NOT EXISTS ux_notification_preferences_wish
    ON notification_preferences (user_id, tenant, channel, category);
CREATE UNIQUE INDEX IF NOT EXISTS ux_notification_suppressions_address
    ON notification_suppressions (channel, address_mark, tenant, category);

UPDATE notification_records SET idempotency_key = tenant || ':' || idempotency_key
    WHERE tenant <> '' AND idempotency_key NOT LIKE tenant || ':%' AND idempotency_key NOT LIKE 'job:%';
UPDATE notification_digest_items SET item_key =
    (SELECT r.tenant FROM notification_records AS r WHERE r.id = record_id) || ':' || item_key
    WHERE EXISTS (
        SELECT 1 FROM notification_records AS r
        WHERE r.id = record_id AND r.tenant <> '' AND item_key NOT LIKE r.tenant || ':%'
    );

-- A STOP may be taken back by a START, a number that is dead may not.
UPDATE notification_suppressions SET reason = 'stop'
    WHERE channel = 'sms' AND reason = 'bounce' AND detail LIKE '%21610%';

-- down
-- Nobody who wanted nothing may be written to again: of several wishes of one person the one against it stays. Keys
-- stay as they are; those of a tenant are found no more.
DELETE FROM notification_preferences WHERE EXISTS (
    SELECT 1 FROM notification_preferences AS other
    WHERE other.user_id = notification_preferences.user_id
        AND other.channel = notification_preferences.channel
        AND other.category = notification_preferences.category
        AND (other.enabled < notification_preferences.enabled
            OR (other.enabled = notification_preferences.enabled AND other.id < notification_preferences.id))
);
DELETE FROM notification_suppressions WHERE EXISTS (
    SELECT 1 FROM notification_suppressions AS other
    WHERE other.channel = notification_suppressions.channel
        AND other.address_mark = notification_suppressions.address_mark
        AND other.category = notification_suppressions.category
        AND (other.reason < notification_suppressions.reason
            OR (other.reason = notification_suppressions.reason AND other.id < notification_suppressions.id))
);
DROP INDEX IF EXISTS ux_notification_preferences_wish;
DROP INDEX IF EXISTS ux_notification_suppressions_address;

-- down postgresql
ALTER TABLE notification_suppressions DROP COLUMN tenant;
ALTER TABLE notification_preferences DROP COLUMN tenant;
ALTER TABLE notification_preferences
    ADD CONSTRAINT notification_preferences_user_id_channel_category_key UNIQUE (user_id, channel, category);
ALTER TABLE notification_suppressions
    ADD CONSTRAINT notification_suppressions_channel_address_mark_category_key UNIQUE (channel, address_mark, category);

-- down sqlite
DROP TABLE IF EXISTS notification_preferences_anew;
CREATE TABLE notification_preferences_anew (
    id CHAR(32) PRIMARY KEY DEFAULT (lower(hex(randomblob(16)))),
    organization_id CHAR(32) REFERENCES organizations (id) ON DELETE CASCADE,
    user_id CHAR(32) NOT NULL,
    channel TEXT NOT NULL,
    category TEXT DEFAULT '*' NOT NULL,
    enabled BOOLEAN DEFAULT true NOT NULL,
    quiet_from TEXT,
    quiet_until TEXT,
    time_zone TEXT DEFAULT 'UTC' NOT NULL,
    created_at DATETIME DEFAULT (strftime('%Y-%m-%d %H:%M:%f000', 'now')) NOT NULL,
    updated_at DATETIME DEFAULT (strftime('%Y-%m-%d %H:%M:%f000', 'now')) NOT NULL,
    UNIQUE (user_id, channel, category)
);
INSERT INTO notification_preferences_anew
    SELECT id, organization_id, user_id, channel, category, enabled, quiet_from, quiet_until, time_zone,
        created_at, updated_at
    FROM notification_preferences;
DROP TABLE notification_preferences;
ALTER TABLE notification_preferences_anew RENAME TO notification_preferences;
CREATE INDEX ix_notification_preferences_organization_id ON notification_preferences (organization_id);

DROP TABLE IF EXISTS notification_suppressions_anew;
CREATE TABLE notification_suppressions_anew (
    id CHAR(32) PRIMARY KEY DEFAULT (lower(hex(randomblob(16)))),
    channel TEXT NOT NULL,
    address_mark TEXT NOT NULL,
    address BLOB NOT NULL,
    category TEXT DEFAULT '*' NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT,
    created_at DATETIME DEFAULT (strftime('%Y-%m-%d %H:%M:%f000', 'now')) NOT NULL,
    UNIQUE (channel, address_mark, category)
);
INSERT INTO notification_suppressions_anew
    SELECT id, channel, address_mark, address, category, reason, detail, created_at FROM notification_suppressions;
DROP TABLE notification_suppressions;
ALTER TABLE notification_suppressions_anew RENAME TO notification_suppressions;

-- down
ALTER TABLE notification_records DROP COLUMN batch;
ALTER TABLE notification_records DROP COLUMN tenant;
