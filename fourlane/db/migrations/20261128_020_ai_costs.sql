-- What AI calls cost, to the billionth of a dollar, and what else a row says of a call.

-- up
ALTER TABLE ai_operation_logs ADD COLUMN IF NOT EXISTS tenant TEXT;
ALTER TABLE ai_operation_logs ADD COLUMN IF NOT EXISTS task TEXT;
ALTER TABLE ai_operation_logs ADD COLUMN IF NOT EXISTS outcome TEXT;
ALTER TABLE ai_operation_logs ADD COLUMN IF NOT EXISTS cached_input_tokens BIGINT DEFAULT 0 NOT NULL;
ALTER TABLE ai_operation_logs ADD COLUMN IF NOT EXISTS reasoning_tokens BIGINT DEFAULT 0 NOT NULL;
ALTER TABLE ai_operation_logs ADD COLUMN IF NOT EXISTS cost_estimated BOOLEAN DEFAULT false NOT NULL;
ALTER TABLE ai_operation_logs ADD COLUMN IF NOT EXISTS cost_known BOOLEAN DEFAULT true NOT NULL;
ALTER TABLE ai_operation_logs ADD COLUMN IF NOT EXISTS first_token_ms BIGINT;

-- up postgresql
ALTER TABLE ai_operation_logs ALTER COLUMN cost_micro_usd TYPE NUMERIC(20, 3);

-- down postgresql
ALTER TABLE ai_operation_logs ALTER COLUMN cost_micro_usd TYPE BIGINT;

-- down
ALTER TABLE ai_operation_logs DROP COLUMN first_token_ms;
ALTER TABLE ai_operation_logs DROP COLUMN cost_known;
ALTER TABLE ai_operation_logs DROP COLUMN cost_estimated;
ALTER TABLE ai_operation_logs DROP COLUMN reasoning_tokens;
ALTER TABLE ai_operation_logs DROP COLUMN cached_input_tokens;
ALTER TABLE ai_operation_logs DROP COLUMN outcome;
ALTER TABLE ai_operation_logs DROP COLUMN task;
ALTER TABLE ai_operation_logs DROP COLUMN tenant;
