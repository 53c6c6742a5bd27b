-- The runner's own table, made before the first numbered file. A database of the seed's server has the first two
-- columns already: it gains the others, and its rows keep no checksum.
CREATE TABLE IF NOT EXISTS schema_migrations (
  version INTEGER PRIMARY KEY,
  applied_at TIMESTAMPTZ DEFAULT NOW()
);
ALTER TABLE schema_migrations ADD COLUMN IF NOT EXISTS name TEXT;
ALTER TABLE schema_migrations ADD COLUMN IF NOT EXISTS checksum CHAR(64);
ALTER TABLE schema_migrations ADD COLUMN IF NOT EXISTS duration INTEGER;  -- milliseconds
ALTER TABLE schema_migrations ADD COLUMN IF NOT EXISTS applied_by TEXT;
