-- Who may do what: members read their organization's rows, the worker's role does its work and no more, and the web
-- tier puts jobs into the outbox by enqueue_job. SQLite has no roles: there, who can open the file may do all.

-- up postgresql
-- Roles belong to the server, not to the database: another database may have made them already.
DO $$
DECLARE
    name TEXT;
BEGIN
    FOREACH name IN ARRAY ARRAY['fourlane_worker', 'fourlane_web'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', name);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
        EXECUTE format('GRANT USAGE ON SCHEMA public TO %I', name);
    END LOOP;
    -- Supabase's role of users who are logged in.
    IF to_regrole('authenticated') IS NOT NULL THEN
        GRANT fourlane_web TO authenticated;
    END IF;
END $$;

-- The user of a request: PostgREST puts the claims of the JSON Web Token into the transaction's settings.
CREATE OR REPLACE FUNCTION fourlane_user_id() RETURNS UUID
LANGUAGE sql STABLE SET search_path = '' AS $$
    SELECT nullif(coalesce(
        nullif(current_setting('request.jwt.claims', true), '')::json ->> 'sub',
        current_setting('request.jwt.claim.sub', true)
    ), '')::uuid
$$;

-- The organizations of that user. A platform that keeps its members elsewhere replaces the body of this one.
CREATE OR REPLACE FUNCTION fourlane_organizations() RETURNS SETOF UUID
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$
    SELECT member.organization_id FROM public.organization_members AS member
    WHERE member.user_id = public.fourlane_user_id()
$$;

CREATE OR REPLACE FUNCTION fourlane_may_enqueue(organization UUID, name TEXT, owner TEXT, lane INTEGER) RETURNS BOOLEAN
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$
    SELECT organization IN (SELECT public.fourlane_organizations()) AND EXISTS (
        SELECT 1 FROM public.outbox_tasks AS allowed
        WHERE allowed.task = name AND allowed.service = owner AND allowed.tier = lane
    )
$$;

-- Supabase gives all that is made in the schema public to everybody. Row-level security stands before the rows, not
-- before the columns.
DO $$
DECLARE
    taken RECORD;
BEGIN
    FOR taken IN
        SELECT c.oid::regclass AS name, r.rolname
        FROM pg_class AS c, pg_roles AS r
        WHERE c.relnamespace = 'public'::regnamespace AND r.rolname IN ('anon', 'authenticated') AND (
            obj_description(c.oid, 'pg_class') = 'made by Fourlane'
            OR c.relkind = 'r' AND c.relname IN (
                'job_outbox', 'outbox_tasks', 'webhook_endpoints', 'webhook_deliveries', 'reconciliation_runs',
                'reconciliation_findings', 'notification_records', 'notification_preferences', 'api_keys',
                'schema_versions'
            )
        )
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM %I', taken.name, taken.rolname);
    END LOOP;
END $$;

-- Every table closed, then opened for the worker, each by the verbs that it needs.
DO $$
DECLARE
    opened RECORD;
BEGIN
    FOR opened IN
        SELECT * FROM (VALUES
            ('organizations', 'SELECT'),
            ('organization_members', 'SELECT'),
            ('credit_accounts', 'SELECT, INSERT, UPDATE'),
            ('credit_transactions', 'SELECT, INSERT, UPDATE'),
            ('subscriptions', 'SELECT, INSERT, UPDATE'),
            ('invoices', 'SELECT, INSERT, UPDATE'),
            ('payment_methods', 'SELECT'),
            -- Logs are added to, never changed.
            ('audit_logs', 'SELECT, INSERT'),
            ('ai_operation_logs', 'SELECT, INSERT'),
            ('security_events', 'SELECT, INSERT'),
            ('job_outbox', 'SELECT, INSERT, UPDATE, DELETE'),
            ('outbox_tasks', 'SELECT'),
            ('webhook_endpoints', 'SELECT, INSERT, UPDATE'),
            ('webhook_deliveries', 'SELECT, INSERT, UPDATE, DELETE'),
            ('reconciliation_runs', 'SELECT, INSERT, UPDATE'),
            ('reconciliation_findings', 'SELECT, INSERT, UPDATE'),
            ('notification_records', 'SELECT, INSERT, UPDATE, DELETE'),
            ('notification_preferences', 'SELECT, INSERT, UPDATE'),
            ('api_keys', 'SELECT, INSERT, UPDATE'),
            ('schema_versions', 'SELECT')
        ) AS t (name, verbs)
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', opened.name);
        EXECUTE format('GRANT %s ON %I TO fourlane_worker', opened.verbs, opened.name);
        EXECUTE format('DROP POLICY IF EXISTS fourlane_worker ON %I', opened.name);
        EXECUTE format('CREATE POLICY fourlane_worker ON %I TO fourlane_worker USING (true) WITH CHECK (true)',
            opened.name);
    END LOOP;
END $$;

-- Members read what is their organization's. The rules are subqueries, so that they are asked once and not for each row.
-- A table that the platform made keeps the platform's own policies: one
-- more would widen them.
DO $$
DECLARE
    opened RECORD;
BEGIN
    FOR opened IN
        SELECT * FROM (VALUES
            ('organizations', '*', 'id IN (SELECT fourlane_organizations())'),
            ('organization_members', '*', 'organization_id IN (SELECT fourlane_organizations())'),
            ('credit_accounts', '*', 'organization_id IN (SELECT fourlane_organizations())'),
            ('credit_transactions', '*', 'organization_id IN (SELECT fourlane_organizations())'),
            ('subscriptions', '*', 'organization_id IN (SELECT fourlane_organizations())'),
            ('invoices', '*', 'organization_id IN (SELECT fourlane_organizations())'),
            ('payment_methods', '*', 'organization_id IN (SELECT fourlane_organizations())'),
            ('audit_logs', '*', 'organization_id IN (SELECT fourlane_organizations())'),
            ('ai_operation_logs', '*', 'organization_id IN (SELECT fourlane_organizations())'),
            ('webhook_endpoints',
             'id, organization_id, url, description, event_types, version, max_concurrency, ordered, failing_since, '
             'consecutive_failures, disabled_at, disabled_reason, created_at, updated_at',
             'organization_id IN (SELECT fourlane_organizations())'),
            ('webhook_deliveries', '*', 'organization_id IN (SELECT fourlane_organizations())'),
            ('notification_records', '*', 'user_id = (SELECT fourlane_user_id())'),
            ('notification_preferences', '*', 'user_id = (SELECT fourlane_user_id())'),
            ('api_keys',
             'id, organization_id, name, prefix, scopes, created_by, last_used_at, expires_at, revoked_at, created_at',
             'organization_id IN (SELECT fourlane_organizations())')
        ) AS t (name, columns, rule)
    LOOP
        CONTINUE WHEN opened.name IN (
            'organizations', 'organization_members', 'credit_accounts', 'credit_transactions', 'subscriptions',
            'invoices', 'payment_methods', 'audit_logs', 'ai_operation_logs'
        ) AND obj_description(to_regclass(opened.name), 'pg_class') IS DISTINCT FROM 'made by Fourlane';
        EXECUTE format('GRANT SELECT %s ON %I TO fourlane_web',
            CASE opened.columns WHEN '*' THEN '' ELSE '(' || opened.columns || ')' END, opened.name);
        EXECUTE format('DROP POLICY IF EXISTS fourlane_members ON %I', opened.name);
        EXECUTE format('CREATE POLICY fourlane_members ON %I FOR SELECT TO fourlane_web USING (%s)',
            opened.name, opened.rule);
    END LOOP;
END $$;

-- The way into the outbox for members: insert only, tasks that outbox_tasks names, for organizations of their own.
ALTER TABLE job_outbox ALTER COLUMN created_by SET DEFAULT fourlane_user_id();
GRANT INSERT (id, task, service, tier, args, kwargs, run_at, order_key, organization_id) ON job_outbox TO fourlane_web;
DROP POLICY IF EXISTS fourlane_members ON job_outbox;
CREATE POLICY fourlane_members ON job_outbox FOR INSERT TO fourlane_web
    WITH CHECK (
        fourlane_may_enqueue(organization_id, task, service, tier)
        AND options = '{}' AND relayed_at IS NULL AND failed_at IS NULL AND error IS NULL
    );

CREATE OR REPLACE FUNCTION enqueue_job(
    task TEXT,
    args JSON DEFAULT '[]',
    kwargs JSON DEFAULT '{}',
    organization_id UUID DEFAULT NULL,
    run_at TIMESTAMPTZ DEFAULT NULL,
    order_key TEXT DEFAULT NULL,
    id UUID DEFAULT NULL,
    service TEXT DEFAULT NULL,
    tier INTEGER DEFAULT NULL
) RETURNS UUID
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
DECLARE
    -- Not current_user: in here that is who made this function.
    caller TEXT := coalesce(nullif(current_setting('role', true), 'none'), session_user);
    trusted BOOLEAN;
    allowed public.outbox_tasks;
    present public.job_outbox;
    job UUID := coalesce(enqueue_job.id, gen_random_uuid());
BEGIN
    SELECT r.rolsuper OR r.rolbypassrls OR pg_catalog.pg_has_role(r.oid, 'fourlane_worker', 'MEMBER') INTO trusted
    FROM pg_catalog.pg_roles AS r WHERE r.rolname = caller;
    SELECT * INTO allowed FROM public.outbox_tasks AS t WHERE t.task = enqueue_job.task;

    IF NOT coalesce(trusted, false) THEN
        IF allowed.task IS NULL THEN
            RAISE EXCEPTION 'members may not enqueue the task %', enqueue_job.task USING ERRCODE = '42501',
                HINT = 'an operator adds it to outbox_tasks';
        END IF;
        IF enqueue_job.organization_id IS NULL
            OR enqueue_job.organization_id NOT IN (SELECT public.fourlane_organizations()) THEN
            RAISE EXCEPTION 'the caller is no member of the organization %', enqueue_job.organization_id
                USING ERRCODE = '42501';
        END IF;
        IF enqueue_job.service <> allowed.service OR enqueue_job.tier <> allowed.tier THEN
            RAISE EXCEPTION 'members may enqueue the task % only for service % and tier %', allowed.task,
                allowed.service, allowed.tier USING ERRCODE = '42501';
        END IF;
    END IF;

    INSERT INTO public.job_outbox (id, task, service, tier, args, kwargs, run_at, order_key, organization_id)
    VALUES (
        job, enqueue_job.task,
        coalesce(enqueue_job.service, allowed.service, 'default'),
        coalesce(enqueue_job.tier, allowed.tier, 1),
        enqueue_job.args::text, enqueue_job.kwargs::text,
        enqueue_job.run_at, enqueue_job.order_key, enqueue_job.organization_id
    )
    ON CONFLICT ON CONSTRAINT job_outbox_id_key DO NOTHING;
    IF NOT FOUND THEN
        -- The same call again, after a lost answer: it is one job. Another's id is an error.
        SELECT * INTO present FROM public.job_outbox AS o WHERE o.id = job;
        IF present.task IS DISTINCT FROM enqueue_job.task
            OR present.organization_id IS DISTINCT FROM enqueue_job.organization_id THEN
            RAISE EXCEPTION 'another job has the id %', job USING ERRCODE = '23505';
        END IF;
    END IF;
    RETURN job;
END $$;

REVOKE EXECUTE ON FUNCTION enqueue_job(TEXT, JSON, JSON, UUID, TIMESTAMPTZ, TEXT, UUID, TEXT, INTEGER) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION enqueue_job(TEXT, JSON, JSON, UUID, TIMESTAMPTZ, TEXT, UUID, TEXT, INTEGER)
    TO fourlane_web, fourlane_worker;
DO $$
BEGIN
    -- Supabase's roles of those who are not logged in, and of trusted servers.
    IF to_regrole('anon') IS NOT NULL THEN
        REVOKE EXECUTE ON FUNCTION enqueue_job(TEXT, JSON, JSON, UUID, TIMESTAMPTZ, TEXT, UUID, TEXT, INTEGER) FROM anon;
    END IF;
    IF to_regrole('service_role') IS NOT NULL THEN
        GRANT EXECUTE ON FUNCTION enqueue_job(TEXT, JSON, JSON, UUID, TIMESTAMPTZ, TEXT, UUID, TEXT, INTEGER)
            TO service_role;
    END IF;
END $$;

-- Wakes relays that listen, once for each transaction.
CREATE OR REPLACE FUNCTION fourlane_outbox_notify() RETURNS TRIGGER
LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
    PERFORM pg_catalog.pg_notify('fourlane_outbox', '');
    RETURN NULL;
END $$;
DROP TRIGGER IF EXISTS fourlane_outbox_notify ON job_outbox;
CREATE TRIGGER fourlane_outbox_notify AFTER INSERT ON job_outbox
    FOR EACH STATEMENT EXECUTE FUNCTION fourlane_outbox_notify();

-- up sqlite

-- down postgresql
DROP TRIGGER IF EXISTS fourlane_outbox_notify ON job_outbox;
DROP FUNCTION IF EXISTS fourlane_outbox_notify();
DROP FUNCTION IF EXISTS enqueue_job(TEXT, JSON, JSON, UUID, TIMESTAMPTZ, TEXT, UUID, TEXT, INTEGER);
ALTER TABLE job_outbox ALTER COLUMN created_by DROP DEFAULT;
DO $$
DECLARE
    policy RECORD;
BEGIN
    FOR policy IN
        SELECT policyname, tablename FROM pg_policies
        WHERE schemaname = 'public' AND policyname IN ('fourlane_members', 'fourlane_worker')
    LOOP
        EXECUTE format('DROP POLICY %I ON %I', policy.policyname, policy.tablename);
    END LOOP;
    -- Row-level security stays on: without policies a table is closed, and closed is safe.
    -- The roles stay too: other databases of the server may use them.
    REVOKE ALL ON ALL TABLES IN SCHEMA public FROM fourlane_worker, fourlane_web;
END $$;
DROP FUNCTION IF EXISTS fourlane_may_enqueue(UUID, TEXT, TEXT, INTEGER);
DROP FUNCTION IF EXISTS fourlane_organizations();
DROP FUNCTION IF EXISTS fourlane_user_id();

-- down sqlite
