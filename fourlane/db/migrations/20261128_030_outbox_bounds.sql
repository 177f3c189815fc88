-- What a member may put into the outbox: moments that a calendar has, and no more rows, bytes and haste than a quota.
-- Rows that are not due for long stay in the table, where relays pass them by and quotas count them.

-- up
CREATE TABLE IF NOT EXISTS outbox_quotas (
    organization_id UUID PRIMARY KEY,
    waiting_rows BIGINT DEFAULT 10000 NOT NULL CHECK (waiting_rows BETWEEN 0 AND 1000000000000),
    waiting_bytes BIGINT DEFAULT 100000000 NOT NULL CHECK (waiting_bytes BETWEEN 0 AND 1000000000000000),
    rows_a_minute BIGINT DEFAULT 6000 NOT NULL CHECK (rows_a_minute BETWEEN 1 AND 1000000000000),
    bytes_a_minute BIGINT DEFAULT 20000000 NOT NULL CHECK (bytes_a_minute BETWEEN 1 AND 1000000000000000),
    days_ahead BIGINT DEFAULT 366 NOT NULL CHECK (days_ahead BETWEEN 0 AND 36500),
    created_at TIMESTAMPTZ DEFAULT now() NOT NULL
);

CREATE TABLE IF NOT EXISTS outbox_usage (
    organization_id UUID PRIMARY KEY,
    waiting_rows BIGINT DEFAULT 0 NOT NULL,
    waiting_bytes BIGINT DEFAULT 0 NOT NULL,
    rows_paid_until TIMESTAMPTZ DEFAULT now() NOT NULL,
    bytes_paid_until TIMESTAMPTZ DEFAULT now() NOT NULL
);

ALTER TABLE job_outbox ADD COLUMN IF NOT EXISTS held_until TIMESTAMPTZ;

-- What relays look at: for the order of the inserts, and for turns. Held rows are in neither.
DROP INDEX IF EXISTS ix_job_outbox_pending;
CREATE INDEX ix_job_outbox_pending ON job_outbox (position)
    WHERE relayed_at IS NULL AND failed_at IS NULL AND held_until IS NULL;
CREATE INDEX IF NOT EXISTS ix_job_outbox_organization ON job_outbox (organization_id, position)
    WHERE relayed_at IS NULL AND failed_at IS NULL AND held_until IS NULL;
CREATE INDEX IF NOT EXISTS ix_job_outbox_held ON job_outbox (held_until) WHERE held_until IS NOT NULL;
-- For counting what one organization has that is not due yet.
CREATE INDEX IF NOT EXISTS ix_job_outbox_later ON job_outbox (organization_id, run_at)
    WHERE run_at IS NOT NULL AND failed_at IS NULL;

-- up postgresql
-- Of all organizations that have no row of their own; without it those have no bounds.
INSERT INTO outbox_quotas (organization_id) VALUES ('00000000-0000-0000-0000-000000000000') ON CONFLICT DO NOTHING;

-- A row is updated in place, again and again.
ALTER TABLE outbox_usage SET (fillfactor = 20, autovacuum_vacuum_threshold = 1000);

-- Of what waits only: a bad row from before can be marked as failed, and marking one as relayed reads no JSON again.
ALTER TABLE job_outbox DROP CONSTRAINT IF EXISTS job_outbox_is_a_job;
ALTER TABLE job_outbox ADD CONSTRAINT job_outbox_is_a_job CHECK (
    relayed_at IS NOT NULL OR failed_at IS NOT NULL OR (
        json_typeof(args::json) = 'array'
        AND json_typeof(kwargs::json) = 'object'
        AND json_typeof(options::json) = 'object'
        AND octet_length(args) + octet_length(kwargs) + octet_length(options) <= 1048576
        AND task <> ''
        AND service ~ '^[a-zA-Z_][a-zA-Z0-9_-]{0,62}$'
    )
) NOT VALID;

ALTER TABLE job_outbox DROP CONSTRAINT IF EXISTS job_outbox_moments_are_from_1970_to_9999;
ALTER TABLE job_outbox ADD CONSTRAINT job_outbox_moments_are_from_1970_to_9999 CHECK (
    relayed_at IS NOT NULL OR failed_at IS NOT NULL OR (
        (run_at IS NULL OR run_at >= '1970-01-01 00:00:00+00' AND run_at < '9999-12-31 00:00:00+00')
        AND created_at >= '1970-01-01 00:00:00+00' AND created_at < '9999-12-31 00:00:00+00'
    )
) NOT VALID;

ALTER TABLE job_outbox DROP CONSTRAINT IF EXISTS job_outbox_names_have_1000_bytes;
ALTER TABLE job_outbox ADD CONSTRAINT job_outbox_names_have_1000_bytes CHECK (
    relayed_at IS NOT NULL OR failed_at IS NOT NULL
    OR (octet_length(task) <= 1000 AND (order_key IS NULL OR octet_length(order_key) <= 1000))
) NOT VALID;

-- Adds to what an organization has waiting, or refuses. What is counted here is what was found by the last true count
-- and all that came since: relays do not touch it, and a true count is only made when that reaches the quota. A row
-- waits until it was relayed and is due: what is relayed and not due takes room in Redis. Who waits for the lock of the
-- row waits for inserts of the same organization only. PostgREST makes PT429 the status 429.
CREATE OR REPLACE FUNCTION fourlane_take_quota(
    organization UUID, added_rows BIGINT, added_bytes BIGINT, last_run_at TIMESTAMPTZ
) RETURNS VOID LANGUAGE plpgsql SET search_path = '' AS $$
DECLARE
    zero CONSTANT UUID := '00000000-0000-0000-0000-000000000000';
    quota public.outbox_quotas;
    used public.outbox_usage;
    row_cost INTERVAL;
    byte_cost INTERVAL;
    free_at TIMESTAMPTZ;
BEGIN
    SELECT * INTO quota FROM public.outbox_quotas AS q WHERE q.organization_id IN (organization, zero)
    ORDER BY q.organization_id = zero LIMIT 1;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF last_run_at > now() + make_interval(days => quota.days_ahead::int) THEN
        RAISE EXCEPTION 'run_at is more than % days ahead', quota.days_ahead USING ERRCODE = '22008',
            HINT = 'an operator raises days_ahead in outbox_quotas';
    END IF;

    row_cost := added_rows * interval '1 minute' / quota.rows_a_minute;
    byte_cost := added_bytes * interval '1 minute' / quota.bytes_a_minute;
    INSERT INTO public.outbox_usage AS u
        (organization_id, waiting_rows, waiting_bytes, rows_paid_until, bytes_paid_until)
    VALUES (organization, added_rows, added_bytes, clock_timestamp() + row_cost, clock_timestamp() + byte_cost)
    ON CONFLICT (organization_id) DO UPDATE SET
        waiting_rows = u.waiting_rows + added_rows,
        waiting_bytes = u.waiting_bytes + added_bytes,
        rows_paid_until = greatest(u.rows_paid_until, clock_timestamp()) + row_cost,
        bytes_paid_until = greatest(u.bytes_paid_until, clock_timestamp()) + byte_cost
    RETURNING * INTO used;
    free_at := greatest(used.rows_paid_until, used.bytes_paid_until) - interval '1 minute';
    IF free_at > clock_timestamp() THEN
        RAISE EXCEPTION 'organization % may put % jobs and % bytes a minute into the outbox', organization,
            quota.rows_a_minute, quota.bytes_a_minute
            USING ERRCODE = 'PT429', DETAIL = 'this would be too much', HINT = format(
                'try again in %s s, or an operator raises rows_a_minute or bytes_a_minute in outbox_quotas',
                ceil(extract(epoch FROM free_at - clock_timestamp())));
    END IF;

    IF used.waiting_rows <= quota.waiting_rows AND used.waiting_bytes <= quota.waiting_bytes THEN
        RETURN;
    END IF;
    SELECT count(*), coalesce(sum(w.size), 0) INTO used.waiting_rows, used.waiting_bytes FROM (
        SELECT octet_length(o.args) + octet_length(o.kwargs) + octet_length(o.options) AS size
        FROM public.job_outbox AS o
        WHERE o.organization_id = organization
            AND o.relayed_at IS NULL AND o.failed_at IS NULL AND o.held_until IS NULL
        UNION ALL
        SELECT octet_length(o.args) + octet_length(o.kwargs) + octet_length(o.options)
        FROM public.job_outbox AS o
        WHERE o.organization_id = organization AND o.run_at > now() AND o.failed_at IS NULL
            AND (o.relayed_at IS NOT NULL OR o.held_until IS NOT NULL)
        LIMIT quota.waiting_rows + 1
    ) AS w;
    IF used.waiting_rows > quota.waiting_rows OR used.waiting_bytes > quota.waiting_bytes THEN
        RAISE EXCEPTION 'organization % may have % jobs and % bytes waiting in the outbox', organization,
            quota.waiting_rows, quota.waiting_bytes USING ERRCODE = 'PT429',
            DETAIL = 'with this there would be more',
            HINT = 'try again later: a job waits until a relay has moved it on and it is due; '
                'or an operator raises waiting_rows or waiting_bytes in outbox_quotas';
    END IF;
    UPDATE public.outbox_usage AS u SET waiting_rows = used.waiting_rows, waiting_bytes = used.waiting_bytes
    WHERE u.organization_id = organization;
END $$;
REVOKE EXECUTE ON FUNCTION fourlane_take_quota(UUID, BIGINT, BIGINT, TIMESTAMPTZ) FROM PUBLIC;

-- Programs that may write any row are not bounded: a quota would fail the transactions that their jobs belong to.
CREATE OR REPLACE FUNCTION fourlane_outbox_bounds() RETURNS TRIGGER
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
    caller TEXT := coalesce(nullif(current_setting('role', true), 'none'), session_user);
    added RECORD;
BEGIN
    PERFORM FROM pg_catalog.pg_roles AS r WHERE r.rolname = caller AND (r.rolbypassrls OR pg_catalog.pg_has_role(
        r.oid, (SELECT c.relowner FROM pg_catalog.pg_class AS c WHERE c.oid = TG_RELID), 'MEMBER'
    ));
    IF FOUND THEN
        RETURN NULL;
    END IF;
    FOR added IN
        SELECT n.organization_id, count(*) AS jobs, max(n.run_at) AS last_run_at,
            sum(octet_length(n.args) + octet_length(n.kwargs) + octet_length(n.options)) AS bytes
        FROM new_rows AS n WHERE n.organization_id IS NOT NULL
        GROUP BY n.organization_id ORDER BY n.organization_id
    LOOP
        PERFORM public.fourlane_take_quota(added.organization_id, added.jobs, added.bytes, added.last_run_at);
    END LOOP;
    RETURN NULL;
END $$;
DROP TRIGGER IF EXISTS fourlane_outbox_bounds ON job_outbox;
CREATE TRIGGER fourlane_outbox_bounds AFTER INSERT ON job_outbox REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT
    WHEN (NOT pg_has_role(
        coalesce(nullif(current_setting('role', true), 'none'), session_user)::name, 'fourlane_worker', 'MEMBER'
    ))
    EXECUTE FUNCTION fourlane_outbox_bounds();

ALTER TABLE outbox_quotas ENABLE ROW LEVEL SECURITY;
ALTER TABLE outbox_usage ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON outbox_quotas TO fourlane_worker;
DROP POLICY IF EXISTS fourlane_worker ON outbox_quotas;
CREATE POLICY fourlane_worker ON outbox_quotas FOR SELECT TO fourlane_worker USING (true);

-- Supabase gives all that is made in the schema public to everybody.
DO $$
DECLARE
    name TEXT;
BEGIN
    FOREACH name IN ARRAY ARRAY['anon', 'authenticated'] LOOP
        IF to_regrole(name) IS NOT NULL THEN
            EXECUTE format('REVOKE ALL ON outbox_quotas, outbox_usage FROM %I', name);
            EXECUTE format(
                'REVOKE EXECUTE ON FUNCTION fourlane_take_quota(UUID, BIGINT, BIGINT, TIMESTAMPTZ) FROM %I', name);
        END IF;
    END LOOP;
END $$;

-- down postgresql
DROP TRIGGER IF EXISTS fourlane_outbox_bounds ON job_outbox;
DROP FUNCTION IF EXISTS fourlane_outbox_bounds();
DROP FUNCTION IF EXISTS fourlane_take_quota(UUID, BIGINT, BIGINT, TIMESTAMPTZ);
ALTER TABLE job_outbox DROP CONSTRAINT IF EXISTS job_outbox_names_have_1000_bytes;
ALTER TABLE job_outbox DROP CONSTRAINT IF EXISTS job_outbox_moments_are_from_1970_to_9999;
ALTER TABLE job_outbox DROP CONSTRAINT IF EXISTS job_outbox_is_a_job;
ALTER TABLE job_outbox ADD CONSTRAINT job_outbox_is_a_job CHECK (
    json_typeof(args::json) = 'array'
    AND json_typeof(kwargs::json) = 'object'
    AND json_typeof(options::json) = 'object'
    AND octet_length(args) + octet_length(kwargs) + octet_length(options) <= 1048576
    AND task <> ''
    AND service ~ '^[a-zA-Z_][a-zA-Z0-9_-]{0,62}$'
) NOT VALID;

-- down
DROP INDEX IF EXISTS ix_job_outbox_later;
DROP INDEX IF EXISTS ix_job_outbox_held;
DROP INDEX IF EXISTS ix_job_outbox_organization;
DROP INDEX IF EXISTS ix_job_outbox_pending;
ALTER TABLE job_outbox DROP COLUMN held_until;
CREATE INDEX ix_job_outbox_pending ON job_outbox (position) WHERE relayed_at IS NULL AND failed_at IS NULL;
DROP TABLE IF EXISTS outbox_usage;
DROP TABLE IF EXISTS outbox_quotas;
