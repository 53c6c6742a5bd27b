-- What calls leave behind: plans that wait for their token, results of calls that may be repeated, kept conflicts.

CREATE TABLE plans (
  id TEXT PRIMARY KEY,
  team_id VARCHAR(32) NOT NULL,
  caller TEXT NOT NULL,
  action TEXT NOT NULL,
  target JSONB NOT NULL,
  state JSONB NOT NULL,
  effects JSONB NOT NULL,
  created_at TIMESTAMPTZ NOT NULL,
  expires_at TIMESTAMPTZ NOT NULL,
  used_at TIMESTAMPTZ,
  rev BIGINT NOT NULL DEFAULT 1
);
CREATE INDEX plans_by_expiry ON plans (expires_at, id COLLATE "C");

CREATE TABLE idempotency (
  id TEXT PRIMARY KEY,
  team_id VARCHAR(32) NOT NULL,
  caller TEXT NOT NULL,
  tool TEXT NOT NULL,
  arguments TEXT NOT NULL,
  result JSONB,
  created_at TIMESTAMPTZ NOT NULL,
  expires_at TIMESTAMPTZ NOT NULL,
  rev BIGINT NOT NULL DEFAULT 1
);
CREATE INDEX idempotency_by_expiry ON idempotency (expires_at, id COLLATE "C");

CREATE TABLE conflicts (
  id TEXT PRIMARY KEY,
  team_id VARCHAR(32),
  line_id TEXT NOT NULL,
  target_noun TEXT NOT NULL,
  target_key TEXT NOT NULL,
  base JSONB,
  ours JSONB,
  theirs JSONB,
  reason TEXT NOT NULL,
  waiting JSONB NOT NULL DEFAULT '[]',
  at TIMESTAMPTZ NOT NULL,
  decided TEXT CHECK (decided IN ('ours', 'theirs')),
  decided_by TEXT,
  rev BIGINT NOT NULL DEFAULT 1
);
CREATE INDEX conflicts_open ON conflicts (at, id COLLATE "C") WHERE decided IS NULL;
