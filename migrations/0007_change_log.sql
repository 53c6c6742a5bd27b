-- What lets registries follow this database, and return to it: every committed transaction as a line, the revisions of
-- deleted records (a key that comes again counts on), who this database is, and which homes share it.

CREATE TABLE change_log (
  seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  line_id TEXT NOT NULL CONSTRAINT change_log_line_id_key UNIQUE,
  xid XID8 NOT NULL DEFAULT pg_current_xact_id(),
  at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
  actor TEXT NOT NULL,
  action TEXT NOT NULL,
  changes JSONB NOT NULL
);
CREATE INDEX change_log_xid ON change_log (xid);

CREATE TABLE tombstones (
  noun TEXT NOT NULL,
  key TEXT NOT NULL,
  rev BIGINT NOT NULL,
  PRIMARY KEY (noun, key)
);

-- One row. `observed` is what the cluster said of itself, `cluster` the name that registries know it by. `trimmed_*`
-- are the highest sequence and transaction that were deleted from the log.
CREATE TABLE installation (
  one BOOLEAN PRIMARY KEY DEFAULT true CHECK (one),
  id TEXT NOT NULL,
  observed TEXT NOT NULL,
  cluster TEXT NOT NULL,
  epoch BIGINT NOT NULL DEFAULT 1,
  alone_home TEXT,
  alone_asked_by TEXT,
  trimmed_seq BIGINT NOT NULL DEFAULT 0,
  trimmed_xid XID8 NOT NULL DEFAULT '0'
);

CREATE TABLE homes (
  id TEXT PRIMARY KEY,
  seen_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
  seq BIGINT NOT NULL DEFAULT 0,
  horizon XID8
);
