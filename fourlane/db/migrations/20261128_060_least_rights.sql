-- The worker's role keeps only what the code under fourlane/ uses; what tasks of a program's own need, the program
-- grants to its own role.

-- up postgresql
REVOKE ALL ON organization_members, credit_accounts, payment_methods, outbox_tasks, api_keys FROM fourlane_worker;
REVOKE INSERT, UPDATE ON credit_transactions FROM fourlane_worker;
REVOKE INSERT ON subscriptions FROM fourlane_worker;
REVOKE UPDATE ON reconciliation_seen, notification_digest_items, notification_suppressions FROM fourlane_worker;
-- Logs are added to, and not read: but for what an INSERT gives back.
REVOKE SELECT ON audit_logs, security_events FROM fourlane_worker;
GRANT SELECT (id, created_at) ON audit_logs, security_events TO fourlane_worker;

-- up sqlite

-- down postgresql
REVOKE SELECT (id, created_at) ON audit_logs, security_events FROM fourlane_worker;
GRANT SELECT ON audit_logs, security_events TO fourlane_worker;
GRANT UPDATE ON reconciliation_seen, notification_digest_items, notification_suppressions TO fourlane_worker;
GRANT INSERT ON subscriptions TO fourlane_worker;
GRANT INSERT, UPDATE ON credit_transactions TO fourlane_worker;
GRANT SELECT, INSERT, UPDATE ON credit_accounts, api_keys TO fourlane_worker;
GRANT SELECT ON organization_members, payment_methods, outbox_tasks TO fourlane_worker;

-- down sqlite
