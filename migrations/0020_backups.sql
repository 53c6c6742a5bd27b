-- Backups outlive what they were made of, so they refer to nothing. Branches go with their project.

CREATE TABLE backups (
  id VARCHAR(64) PRIMARY KEY,
  team_id VARCHAR(32) NOT NULL,
  subject TEXT NOT NULL CHECK (subject IN ('database', 'control_plane', 'registry')),
  project TEXT,
  project_uid TEXT,
  environment VARCHAR(20),
  database_uid TEXT,
  home TEXT NOT NULL,
  host TEXT NOT NULL,
  host_name TEXT NOT NULL,
  engine TEXT NOT NULL CHECK (engine IN ('postgres', 'sqlite')),
  reason TEXT NOT NULL,
  stage TEXT NOT NULL CHECK (stage IN ('writing', 'kept', 'failed')),
  worker TEXT,
  file TEXT NOT NULL,
  bytes BIGINT NOT NULL,
  sha256 TEXT NOT NULL,
  server_version TEXT NOT NULL,
  extensions JSONB NOT NULL,
  tables JSONB NOT NULL,
  created_at TIMESTAMPTZ NOT NULL,
  finished_at TIMESTAMPTZ,
  verified_at TIMESTAMPTZ,
  error TEXT,
  rev BIGINT NOT NULL DEFAULT 1,
  CHECK (stage <> 'kept' OR verified_at IS NOT NULL)
);
CREATE INDEX backups_by_team ON backups (team_id, created_at DESC, id COLLATE "C");
CREATE INDEX backups_by_project ON backups (team_id, project, created_at DESC, id COLLATE "C");
CREATE INDEX backups_by_home ON backups (home, created_at, id COLLATE "C");

CREATE TABLE branches (
  project_name VARCHAR(100) NOT NULL REFERENCES projects(name) ON DELETE CASCADE ON UPDATE CASCADE,
  environment VARCHAR(20) CHECK (environment IN ('production', 'staging', 'preview')),
  name VARCHAR(32) NOT NULL,
  uid_key TEXT GENERATED ALWAYS AS (project_name || '/' || coalesce(environment, 'all') || '/' || name) STORED
    PRIMARY KEY,
  uid VARCHAR(32) NOT NULL UNIQUE,
  database_uid TEXT NOT NULL,
  project_uid TEXT NOT NULL,
  team_id VARCHAR(32) NOT NULL,
  home TEXT NOT NULL,
  host TEXT NOT NULL,
  host_name TEXT NOT NULL,
  engine TEXT NOT NULL CHECK (engine IN ('postgres', 'sqlite')),
  stage TEXT NOT NULL CHECK (stage IN ('creating', 'ready', 'removing')),
  worker TEXT,
  place JSONB,
  access JSONB,
  path TEXT,
  root TEXT,
  bytes BIGINT NOT NULL,
  created_at TIMESTAMPTZ NOT NULL,
  expires_at TIMESTAMPTZ NOT NULL,
  rev BIGINT NOT NULL DEFAULT 1
);
CREATE INDEX branches_by_project ON branches (project_name, uid_key COLLATE "C");
CREATE INDEX branches_by_home ON branches (home, uid_key COLLATE "C");
