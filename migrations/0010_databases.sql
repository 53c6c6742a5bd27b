-- Databases of projects, the servers that wait for one or serve several, and the ports of each host.

CREATE TABLE databases (
  project_name VARCHAR(100) NOT NULL REFERENCES projects(name) ON DELETE CASCADE ON UPDATE CASCADE,
  environment VARCHAR(20) CHECK (environment IN ('production', 'staging', 'preview')),
  uid_key TEXT GENERATED ALWAYS AS (project_name || '/' || coalesce(environment, 'all')) STORED PRIMARY KEY,
  uid VARCHAR(32) NOT NULL UNIQUE,
  project_uid VARCHAR(32) NOT NULL,
  team_id VARCHAR(32) NOT NULL REFERENCES teams(id) ON DELETE CASCADE,
  home TEXT NOT NULL,
  host TEXT NOT NULL,
  host_name TEXT NOT NULL,
  engine TEXT NOT NULL CHECK (engine IN ('postgres', 'sqlite')),
  requested TEXT NOT NULL CHECK (requested IN ('auto', 'postgres', 'sqlite')),
  isolation TEXT NOT NULL CHECK (isolation IN ('container', 'shared', 'file')),
  stage TEXT NOT NULL CHECK (stage IN ('creating', 'ready', 'deleting')),
  worker TEXT,
  wanted TEXT NOT NULL CHECK (wanted IN ('running', 'stopped')),
  place JSONB,
  access JSONB,
  next_access JSONB,
  path TEXT,
  adopted BOOLEAN NOT NULL,
  claimed TEXT,
  extensions JSONB NOT NULL,
  fallback TEXT,
  remembered TEXT,
  final_backup BOOLEAN NOT NULL,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  rotated_at TIMESTAMPTZ,
  rev BIGINT NOT NULL DEFAULT 1
);
CREATE INDEX databases_by_project ON databases (project_name, uid_key COLLATE "C");
CREATE INDEX databases_by_team ON databases (team_id, uid_key COLLATE "C");
CREATE INDEX databases_by_home ON databases (home, uid_key COLLATE "C");

CREATE TABLE database_servers (
  id TEXT PRIMARY KEY,
  kind TEXT NOT NULL CHECK (kind IN ('standby', 'shared', 'left')),
  home TEXT NOT NULL,
  host TEXT NOT NULL,
  stage TEXT NOT NULL CHECK (stage IN ('preparing', 'ready', 'removing')),
  worker TEXT,
  place JSONB NOT NULL,
  access JSONB,
  extensions JSONB NOT NULL,
  isolation TEXT NOT NULL CHECK (isolation IN ('container', 'shared')),
  keep_volume BOOLEAN NOT NULL,
  also_named TEXT,
  created_at TIMESTAMPTZ NOT NULL,
  rev BIGINT NOT NULL DEFAULT 1
);
CREATE INDEX database_servers_by_home ON database_servers (home, id COLLATE "C");

-- Two servers that choose one port at one time meet here.
CREATE TABLE ports (
  host TEXT NOT NULL,
  port INTEGER NOT NULL CHECK (port BETWEEN 1 AND 65535),
  uid TEXT GENERATED ALWAYS AS (host || '/' || port::TEXT) STORED UNIQUE,
  holder TEXT NOT NULL,
  purpose TEXT NOT NULL,
  created_at TIMESTAMPTZ NOT NULL,
  rev BIGINT NOT NULL DEFAULT 1,
  PRIMARY KEY (host, port)
);
