-- What a reconciliation has seen of the provider's books while it runs.

-- up
CREATE TABLE IF NOT EXISTS reconciliation_seen (
    run_id UUID NOT NULL REFERENCES reconciliation_runs (id) ON DELETE CASCADE,
    object TEXT NOT NULL,
    ref TEXT NOT NULL,
    alias TEXT,
    payment TEXT,
    amount_minor BIGINT,
    currency TEXT NOT NULL,
    status TEXT NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (run_id, object, ref)
);

CREATE INDEX IF NOT EXISTS ix_reconciliation_seen_alias ON reconciliation_seen (run_id, alias);
CREATE INDEX IF NOT EXISTS ix_reconciliation_seen_group ON reconciliation_seen (run_id, payment);
CREATE INDEX IF NOT EXISTS ix_reconciliation_seen_ref ON reconciliation_seen (run_id, ref);

-- Two that begin at once take one run: only one of them then goes on with it.
CREATE UNIQUE INDEX IF NOT EXISTS ix_reconciliation_runs_running
    ON reconciliation_runs (provider, period_start, period_end) WHERE status = 'running';

-- up postgresql
ALTER TABLE reconciliation_seen ENABLE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, UPDATE, DELETE ON reconciliation_seen TO fourlane_worker;
DROP POLICY IF EXISTS fourlane_worker ON reconciliation_seen;
CREATE POLICY fourlane_worker ON reconciliation_seen TO fourlane_worker USING (true) WITH CHECK (true);

-- down
DROP INDEX IF EXISTS ix_reconciliation_runs_running;
DROP TABLE IF EXISTS reconciliation_seen;
