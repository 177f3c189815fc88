-- Files that jobs leave: images, speech, long answers.

-- up
CREATE TABLE IF NOT EXISTS stored_files (
    name TEXT PRIMARY KEY,
    media_type TEXT NOT NULL,
    data BYTEA NOT NULL,
    stored_at TIMESTAMPTZ DEFAULT now() NOT NULL
);

CREATE INDEX IF NOT EXISTS ix_stored_files_stored ON stored_files (stored_at);

-- up postgresql
-- Images and sound are compressed already: PostgreSQL need not try.
ALTER TABLE stored_files ALTER COLUMN data SET STORAGE EXTERNAL;

ALTER TABLE stored_files ENABLE ROW LEVEL SECURITY;
GRANT SELECT, INSERT, UPDATE, DELETE ON stored_files TO fourlane_worker;
DROP POLICY IF EXISTS fourlane_worker ON stored_files;
CREATE POLICY fourlane_worker ON stored_files TO fourlane_worker USING (true) WITH CHECK (true);

-- Supabase gives all that is made in the schema public to everybody.
DO $$
DECLARE
    name TEXT;
BEGIN
    FOREACH name IN ARRAY ARRAY['anon', 'authenticated'] LOOP
        IF to_regrole(name) IS NOT NULL THEN
            EXECUTE format('REVOKE ALL ON stored_files FROM %I', name);
        END IF;
    END LOOP;
END $$;

-- down
DROP TABLE IF EXISTS stored_files;
