-- The platform's tables that Fourlane reads or writes, where they do not exist yet.
-- One that exists is left as it is; `fourlane db check` says what it lacks.

-- up postgresql
-- Remember which are missing, so that a rollback drops those that were made here and no other.
SELECT set_config('fourlane.made', coalesce(string_agg(name, ',') FILTER (WHERE to_regclass(name) IS NULL), ''), true)
FROM unnest(ARRAY[
        'organizations', 'organization_members', 'credit_accounts', 'credit_transactions', 'subscriptions',
        'invoices', 'payment_methods', 'audit_logs', 'ai_operation_logs', 'security_events'
    ]) AS name;

-- up
CREATE TABLE IF NOT EXISTS organizations (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    name TEXT NOT NULL,
    slug TEXT UNIQUE,
    stripe_customer_id TEXT UNIQUE,
    paypal_payer_id TEXT UNIQUE,
    created_at TIMESTAMPTZ DEFAULT now() NOT NULL,
    updated_at TIMESTAMPTZ DEFAULT now() NOT NULL
);

CREATE TABLE IF NOT EXISTS organization_members (
    organization_id UUID NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    user_id UUID NOT NULL,
    role TEXT DEFAULT 'member' NOT NULL,
    created_at TIMESTAMPTZ DEFAULT now() NOT NULL,
    PRIMARY KEY (organization_id, user_id)
);

CREATE INDEX IF NOT EXISTS ix_organization_members_user_id ON organization_members (user_id);

CREATE TABLE IF NOT EXISTS credit_accounts (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id UUID NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    balance BIGINT DEFAULT 0 NOT NULL,
    created_at TIMESTAMPTZ DEFAULT now() NOT NULL,
    updated_at TIMESTAMPTZ DEFAULT now() NOT NULL,
    UNIQUE (organization_id)
);

CREATE TABLE IF NOT EXISTS credit_transactions (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id UUID NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    credit_account_id UUID NOT NULL REFERENCES credit_accounts (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    credits BIGINT NOT NULL,
    amount_minor BIGINT,
    currency TEXT,
    provider TEXT,
    provider_transaction_id TEXT,
    status TEXT DEFAULT 'succeeded' NOT NULL,
    description TEXT,
    idempotency_key TEXT UNIQUE,
    occurred_at TIMESTAMPTZ DEFAULT now() NOT NULL,
    created_at TIMESTAMPTZ DEFAULT now() NOT NULL,
    UNIQUE (provider, provider_transaction_id)
);

CREATE INDEX IF NOT EXISTS ix_credit_transactions_occurred ON credit_transactions (provider, occurred_at);
CREATE INDEX IF NOT EXISTS ix_credit_transactions_organization_id ON credit_transactions (organization_id);

CREATE TABLE IF NOT EXISTS subscriptions (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id UUID NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    provider TEXT NOT NULL,
    provider_subscription_id TEXT NOT NULL,
    plan TEXT,
    status TEXT NOT NULL,
    amount_minor BIGINT,
    currency TEXT,
    current_period_start TIMESTAMPTZ,
    current_period_end TIMESTAMPTZ,
    cancel_at_period_end BOOLEAN DEFAULT false NOT NULL,
    canceled_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ DEFAULT now() NOT NULL,
    updated_at TIMESTAMPTZ DEFAULT now() NOT NULL,
    UNIQUE (provider, provider_subscription_id)
);

CREATE INDEX IF NOT EXISTS ix_subscriptions_organization_id ON subscriptions (organization_id);

CREATE TABLE IF NOT EXISTS invoices (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id UUID NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    subscription_id UUID REFERENCES subscriptions (id) ON DELETE SET NULL,
    provider TEXT NOT NULL,
    provider_invoice_id TEXT NOT NULL,
    provider_charge_id TEXT,
    number TEXT,
    status TEXT NOT NULL,
    currency TEXT NOT NULL,
    amount_due_minor BIGINT NOT NULL,
    amount_paid_minor BIGINT DEFAULT 0 NOT NULL,
    amount_refunded_minor BIGINT DEFAULT 0 NOT NULL,
    issued_at TIMESTAMPTZ DEFAULT now() NOT NULL,
    due_at TIMESTAMPTZ,
    paid_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ DEFAULT now() NOT NULL,
    updated_at TIMESTAMPTZ DEFAULT now() NOT NULL,
    UNIQUE (provider, provider_invoice_id)
);

CREATE INDEX IF NOT EXISTS ix_invoices_issued ON invoices (provider, issued_at);
CREATE INDEX IF NOT EXISTS ix_invoices_organization_id ON invoices (organization_id);

CREATE TABLE IF NOT EXISTS payment_methods (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id UUID NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    provider TEXT NOT NULL,
    provider_payment_method_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    brand TEXT,
    last4 TEXT,
    exp_month BIGINT,
    exp_year BIGINT,
    is_default BOOLEAN DEFAULT false NOT NULL,
    holder_name BYTEA,
    holder_email BYTEA,
    created_at TIMESTAMPTZ DEFAULT now() NOT NULL,
    updated_at TIMESTAMPTZ DEFAULT now() NOT NULL,
    UNIQUE (provider, provider_payment_method_id)
);

CREATE INDEX IF NOT EXISTS ix_payment_methods_organization_id ON payment_methods (organization_id);

CREATE TABLE IF NOT EXISTS audit_logs (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id UUID REFERENCES organizations (id) ON DELETE CASCADE,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    resource_type TEXT,
    resource_id TEXT,
    details JSONB DEFAULT '{}' NOT NULL,
    ip_address BYTEA,
    request_id TEXT,
    created_at TIMESTAMPTZ DEFAULT now() NOT NULL
);

CREATE INDEX IF NOT EXISTS ix_audit_logs_created ON audit_logs (created_at);
CREATE INDEX IF NOT EXISTS ix_audit_logs_organization_id ON audit_logs (organization_id);

CREATE TABLE IF NOT EXISTS ai_operation_logs (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id UUID REFERENCES organizations (id) ON DELETE CASCADE,
    user_id UUID,
    job_id TEXT,
    operation TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    input_tokens BIGINT DEFAULT 0 NOT NULL,
    output_tokens BIGINT DEFAULT 0 NOT NULL,
    cost_micro_usd BIGINT DEFAULT 0 NOT NULL,
    duration_ms BIGINT,
    status TEXT NOT NULL,
    error_message TEXT,
    trace_id TEXT,
    created_at TIMESTAMPTZ DEFAULT now() NOT NULL
);

CREATE INDEX IF NOT EXISTS ix_ai_operation_logs_created ON ai_operation_logs (created_at);
CREATE INDEX IF NOT EXISTS ix_ai_operation_logs_organization_id ON ai_operation_logs (organization_id);

CREATE TABLE IF NOT EXISTS security_events (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    organization_id UUID REFERENCES organizations (id) ON DELETE CASCADE,
    user_id UUID,
    kind TEXT NOT NULL,
    severity TEXT NOT NULL,
    source TEXT,
    ip_address BYTEA,
    details JSONB DEFAULT '{}' NOT NULL,
    created_at TIMESTAMPTZ DEFAULT now() NOT NULL
);

CREATE INDEX IF NOT EXISTS ix_security_events_created ON security_events (created_at);
CREATE INDEX IF NOT EXISTS ix_security_events_organization_id ON security_events (organization_id);

-- up postgresql
DO $$
DECLARE
    name TEXT;
BEGIN
    FOREACH name IN ARRAY string_to_array(current_setting('fourlane.made'), ',') LOOP
        EXECUTE format('COMMENT ON TABLE %I IS %L', name, 'made by Fourlane');
    END LOOP;
END $$;

-- down postgresql
DO $$
DECLARE
    name TEXT;
    used BOOLEAN;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'security_events', 'ai_operation_logs', 'audit_logs', 'payment_methods', 'invoices',
        'subscriptions', 'credit_transactions', 'credit_accounts', 'organization_members', 'organizations'
    ] LOOP
        CONTINUE WHEN obj_description(to_regclass(name), 'pg_class') IS DISTINCT FROM 'made by Fourlane';
        EXECUTE format('SELECT EXISTS (SELECT 1 FROM %I)', name) INTO used;
        IF used THEN
            RAISE EXCEPTION 'the table % has rows; move them away first', name;
        END IF;
        EXECUTE format('DROP TABLE %I', name);
    END LOOP;
END $$;

-- down sqlite
DROP TABLE IF EXISTS security_events;
DROP TABLE IF EXISTS ai_operation_logs;
DROP TABLE IF EXISTS audit_logs;
DROP TABLE IF EXISTS payment_methods;
DROP TABLE IF EXISTS invoices;
DROP TABLE IF EXISTS subscriptions;
DROP TABLE IF EXISTS credit_transactions;
DROP TABLE IF EXISTS credit_accounts;
DROP TABLE IF EXISTS organization_members;
DROP TABLE IF EXISTS organizations;
