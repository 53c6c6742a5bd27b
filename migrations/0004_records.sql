-- What every record needs beyond the seed's columns: a revision that a change is based on, a parent, and values out of
-- closed sets. Rows of earlier versions keep their meaning. What no record can say is kept in upgrade_leftovers, as it
-- was, for a person to look at: nothing is dropped.

CREATE TABLE upgrade_leftovers (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  table_name TEXT NOT NULL,
  key TEXT NOT NULL,
  reason TEXT NOT NULL,
  content JSONB NOT NULL,
  at TIMESTAMPTZ NOT NULL DEFAULT NOW()
);

-- A team id or project name that breaks the rule of names (as 'team_abc') is renamed, and its children with it.
ALTER TABLE team_members DROP CONSTRAINT team_members_team_id_fkey,
  ADD CONSTRAINT team_members_team_id_fkey FOREIGN KEY (team_id) REFERENCES teams(id) ON DELETE CASCADE ON UPDATE CASCADE;
ALTER TABLE api_keys DROP CONSTRAINT api_keys_team_id_fkey,
  ADD CONSTRAINT api_keys_team_id_fkey FOREIGN KEY (team_id) REFERENCES teams(id) ON DELETE CASCADE ON UPDATE CASCADE;
ALTER TABLE projects DROP CONSTRAINT projects_team_id_fkey,
  ADD CONSTRAINT projects_team_id_fkey FOREIGN KEY (team_id) REFERENCES teams(id) ON DELETE CASCADE ON UPDATE CASCADE;
ALTER TABLE work_tasks DROP CONSTRAINT work_tasks_team_id_fkey,
  ADD CONSTRAINT work_tasks_team_id_fkey FOREIGN KEY (team_id) REFERENCES teams(id) ON DELETE CASCADE ON UPDATE CASCADE;
ALTER TABLE project_slots DROP CONSTRAINT project_slots_project_name_fkey,
  ADD CONSTRAINT project_slots_project_name_fkey FOREIGN KEY (project_name) REFERENCES projects(name) ON DELETE CASCADE ON UPDATE CASCADE;
ALTER TABLE deployments DROP CONSTRAINT deployments_project_name_fkey,
  ADD CONSTRAINT deployments_project_name_fkey FOREIGN KEY (project_name) REFERENCES projects(name) ON DELETE CASCADE ON UPDATE CASCADE;
ALTER TABLE domains DROP CONSTRAINT domains_project_name_fkey,
  ADD CONSTRAINT domains_project_name_fkey FOREIGN KEY (project_name) REFERENCES projects(name) ON DELETE CASCADE ON UPDATE CASCADE;
ALTER TABLE project_envs DROP CONSTRAINT project_envs_project_name_fkey,
  ADD CONSTRAINT project_envs_project_name_fkey FOREIGN KEY (project_name) REFERENCES projects(name) ON DELETE CASCADE ON UPDATE CASCADE;
ALTER TABLE work_tasks DROP CONSTRAINT work_tasks_project_name_fkey,
  ADD CONSTRAINT work_tasks_project_name_fkey FOREIGN KEY (project_name) REFERENCES projects(name) ON DELETE CASCADE ON UPDATE CASCADE;

CREATE FUNCTION pg_temp.plain(name TEXT, longest INTEGER) RETURNS TEXT LANGUAGE sql AS $$
  SELECT btrim(left(btrim(regexp_replace(lower(name), '[^a-z0-9]+', '-', 'g'), '-'), longest), '-')
$$;

DO $$
DECLARE
  old TEXT;
  new TEXT;
BEGIN
  FOR old IN SELECT id FROM teams WHERE id !~ '^[a-z0-9][a-z0-9-]{0,31}$' ORDER BY id LOOP
    new := pg_temp.plain(old, 32);
    IF new = '' OR EXISTS (SELECT 1 FROM teams WHERE id = new) THEN
      new := 'team-' || left(md5(old), 12);
    END IF;
    INSERT INTO upgrade_leftovers (table_name, key, reason, content) VALUES ('teams', new, 'renamed', jsonb_build_object('id', old));
    UPDATE teams SET id = new WHERE id = old;
    UPDATE audit_logs SET team_id = new WHERE team_id = old;
  END LOOP;
  FOR old IN SELECT slug FROM teams WHERE slug !~ '^[a-z0-9][a-z0-9-]{0,99}$' ORDER BY slug LOOP
    new := pg_temp.plain(old, 100);
    IF new = '' OR EXISTS (SELECT 1 FROM teams WHERE slug = new) THEN
      new := 'team-' || left(md5(old), 12);
    END IF;
    INSERT INTO upgrade_leftovers (table_name, key, reason, content)
      SELECT 'teams', id, 'renamed', jsonb_build_object('slug', old) FROM teams WHERE slug = old;
    UPDATE teams SET slug = new WHERE slug = old;
  END LOOP;
  FOR old IN SELECT name FROM projects WHERE name !~ '^[a-z0-9]([a-z0-9-]{0,98}[a-z0-9])?$' ORDER BY name LOOP
    new := pg_temp.plain(old, 100);
    IF new = '' OR EXISTS (SELECT 1 FROM projects WHERE name = new) THEN
      new := 'project-' || left(md5(old), 12);
    END IF;
    INSERT INTO upgrade_leftovers (table_name, key, reason, content) VALUES ('projects', new, 'renamed', jsonb_build_object('name', old));
    UPDATE projects SET name = new WHERE name = old;
  END LOOP;
END
$$;
DROP FUNCTION pg_temp.plain(TEXT, INTEGER);

-- Rows without a parent, or of an environment or slot that does not exist, belong to nobody.
WITH gone AS (DELETE FROM projects WHERE team_id IS NULL RETURNING *), kept AS (
  INSERT INTO upgrade_leftovers (table_name, key, reason, content) SELECT 'projects', name, 'no team', to_jsonb(gone) FROM gone
), slots AS (
  INSERT INTO upgrade_leftovers (table_name, key, reason, content)
    SELECT 'project_slots', s.id::TEXT, 'no team', to_jsonb(s) FROM project_slots s JOIN gone ON gone.name = s.project_name
), deploys AS (
  INSERT INTO upgrade_leftovers (table_name, key, reason, content)
    SELECT 'deployments', d.id, 'no team', to_jsonb(d) FROM deployments d JOIN gone ON gone.name = d.project_name
), hosts AS (
  INSERT INTO upgrade_leftovers (table_name, key, reason, content)
    SELECT 'domains', d.domain, 'no team', to_jsonb(d) FROM domains d JOIN gone ON gone.name = d.project_name
), envs AS (
  INSERT INTO upgrade_leftovers (table_name, key, reason, content)
    SELECT 'project_envs', e.id::TEXT, 'no team', to_jsonb(e) FROM project_envs e JOIN gone ON gone.name = e.project_name
), tasks AS (
  INSERT INTO upgrade_leftovers (table_name, key, reason, content)
    SELECT 'work_tasks', t.id::TEXT, 'no team', to_jsonb(t) FROM work_tasks t JOIN gone ON gone.name = t.project_name
)
INSERT INTO upgrade_leftovers (table_name, key, reason, content)
  SELECT 'work_task_files', f.id::TEXT, 'no team', to_jsonb(f)
  FROM work_task_files f JOIN work_tasks t ON t.id = f.task_id JOIN gone ON gone.name = t.project_name;

WITH gone AS (DELETE FROM team_members WHERE team_id IS NULL OR email !~ '^[^@\s]+@[^@\s]+$' RETURNING *)
INSERT INTO upgrade_leftovers (table_name, key, reason, content)
  SELECT 'team_members', id, 'no team or no e-mail address', to_jsonb(gone) FROM gone;
WITH gone AS (DELETE FROM api_keys WHERE team_id IS NULL OR lower(key_hash) !~ '^[0-9a-f]{64}$' RETURNING *)
INSERT INTO upgrade_leftovers (table_name, key, reason, content)
  SELECT 'api_keys', id, 'no team or no SHA-256', to_jsonb(gone) FROM gone;
WITH gone AS (
  DELETE FROM project_slots WHERE project_name IS NULL OR environment NOT IN ('production', 'staging', 'preview') RETURNING *
)
INSERT INTO upgrade_leftovers (table_name, key, reason, content)
  SELECT 'project_slots', id::TEXT, 'no project or another environment', to_jsonb(gone) FROM gone;
WITH gone AS (
  DELETE FROM deployments
  WHERE project_name IS NULL OR environment NOT IN ('production', 'staging', 'preview') OR slot NOT IN ('blue', 'green') RETURNING *
)
INSERT INTO upgrade_leftovers (table_name, key, reason, content)
  SELECT 'deployments', id, 'no project, another environment or another slot', to_jsonb(gone) FROM gone;
WITH gone AS (
  DELETE FROM domains WHERE project_name IS NULL OR environment NOT IN ('production', 'staging', 'preview') OR domain = '' RETURNING *
)
INSERT INTO upgrade_leftovers (table_name, key, reason, content)
  SELECT 'domains', id::TEXT, 'no project, no name or another environment', to_jsonb(gone) FROM gone;
WITH gone AS (
  DELETE FROM project_envs
  WHERE project_name IS NULL OR environment NOT IN ('production', 'staging', 'preview') OR jsonb_typeof(env_data) <> 'object' RETURNING *
)
INSERT INTO upgrade_leftovers (table_name, key, reason, content)
  SELECT 'project_envs', id::TEXT, 'no project, no object or another environment', to_jsonb(gone) FROM gone;
WITH gone AS (DELETE FROM work_tasks WHERE project_name IS NULL OR (team_id IS NULL AND project_name IS NULL) RETURNING *), files AS (
  INSERT INTO upgrade_leftovers (table_name, key, reason, content)
    SELECT 'work_task_files', f.id::TEXT, 'no project', to_jsonb(f) FROM work_task_files f JOIN gone ON gone.id = f.task_id
)
INSERT INTO upgrade_leftovers (table_name, key, reason, content)
  SELECT 'work_tasks', id::TEXT, 'no project', to_jsonb(gone) FROM gone;
WITH gone AS (DELETE FROM work_task_files WHERE task_id IS NULL OR file_path = '' RETURNING *)
INSERT INTO upgrade_leftovers (table_name, key, reason, content)
  SELECT 'work_task_files', id::TEXT, 'no task or no path', to_jsonb(gone) FROM gone;

-- Values outside the closed sets: the row as it was, then the least that the word can mean.
INSERT INTO upgrade_leftovers (table_name, key, reason, content)
  SELECT 'teams', id, 'another plan', to_jsonb(t) FROM teams t WHERE plan NOT IN ('free', 'pro', 'enterprise')
  UNION ALL SELECT 'teams', id, 'settings that are not known', to_jsonb(t) FROM teams t
    WHERE settings <> '{}' AND (jsonb_typeof(settings) <> 'object' OR settings - 'notifications' - 'deploymentDefaults' <> '{}'
      OR jsonb_typeof(settings -> 'notifications') <> 'object' OR (settings -> 'notifications') - 'slack' - 'discord' <> '{}'
      OR jsonb_typeof(settings -> 'deploymentDefaults') <> 'object'
      OR (settings -> 'deploymentDefaults') - 'autoPromote' - 'healthCheckTimeout' <> '{}')
  UNION ALL SELECT 'team_members', id, 'another role', to_jsonb(m) FROM team_members m WHERE role NOT IN ('owner', 'admin', 'member', 'viewer')
  UNION ALL SELECT 'api_keys', id, 'another role, scopes or rate limit', to_jsonb(k) FROM api_keys k
    WHERE role NOT IN ('owner', 'admin', 'member', 'viewer') OR jsonb_typeof(scopes) NOT IN ('array', 'null')
      OR jsonb_typeof(rate_limit) NOT IN ('number', 'null')
  UNION ALL SELECT 'projects', name, 'another type', to_jsonb(p) FROM projects p WHERE type NOT IN ('nextjs', 'remix', 'nodejs', 'python', 'go')
  UNION ALL SELECT 'project_slots', id::TEXT, 'another slot or state', to_jsonb(s) FROM project_slots s
    WHERE active_slot NOT IN ('blue', 'green') OR blue_state NOT IN ('empty', 'deployed', 'active', 'grace')
      OR green_state NOT IN ('empty', 'deployed', 'active', 'grace')
  UNION ALL SELECT 'deployments', id, 'another status', to_jsonb(d) FROM deployments d WHERE status NOT IN ('pending', 'running', 'success', 'failed')
  UNION ALL SELECT 'deployments', id, 'steps rewritten', to_jsonb(d) FROM deployments d WHERE steps NOT IN ('[]', 'null')
  UNION ALL SELECT 'domains', domain, 'another type or status', to_jsonb(d) FROM domains d
    WHERE type NOT IN ('subdomain', 'custom') OR status NOT IN ('pending', 'active', 'error')
  UNION ALL SELECT 'work_tasks', id::TEXT, 'another status, priority, or lists rewritten', to_jsonb(t) FROM work_tasks t
    WHERE status NOT IN ('draft', 'in-progress', 'review', 'done', 'deployed', 'cancelled')
      OR priority NOT IN ('low', 'medium', 'high', 'critical') OR title = ''
      OR jsonb_typeof(affected_files) <> 'array' OR jsonb_typeof(affected_areas) <> 'array' OR progress_notes NOT IN ('[]', 'null')
  UNION ALL SELECT 'work_task_files', id::TEXT, 'another mode or status', to_jsonb(f) FROM work_task_files f
    WHERE lock_type NOT IN ('editing', 'reviewing') OR status NOT IN ('locked', 'released');

CREATE FUNCTION pg_temp.moment(text TEXT, otherwise TIMESTAMPTZ) RETURNS TEXT LANGUAGE plpgsql AS $$
BEGIN
  RETURN to_char(coalesce(text::TIMESTAMPTZ, otherwise) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
EXCEPTION WHEN OTHERS THEN
  RETURN to_char(otherwise AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
END
$$;
CREATE FUNCTION pg_temp.texts(list JSONB) RETURNS JSONB LANGUAGE sql AS $$
  SELECT CASE WHEN jsonb_typeof(list) = 'array'
    THEN (SELECT coalesce(jsonb_agg(e ORDER BY n), '[]') FROM jsonb_array_elements_text(list) WITH ORDINALITY AS x(e, n) WHERE e IS NOT NULL)
    ELSE '[]' END
$$;

UPDATE teams SET
  plan = CASE WHEN plan IN ('free', 'pro', 'enterprise') THEN plan ELSE 'free' END,
  name = coalesce(nullif(name, ''), id),
  owner = coalesce(nullif(owner, ''), 'unknown'),
  settings = jsonb_strip_nulls(jsonb_build_object(
    'notifications', jsonb_strip_nulls(jsonb_build_object(
      'slack', CASE WHEN jsonb_typeof(settings #> '{notifications,slack}') = 'string' THEN settings #> '{notifications,slack}' END,
      'discord', CASE WHEN jsonb_typeof(settings #> '{notifications,discord}') = 'string' THEN settings #> '{notifications,discord}' END)),
    'deploymentDefaults', jsonb_strip_nulls(jsonb_build_object(
      'autoPromote', CASE WHEN jsonb_typeof(settings #> '{deploymentDefaults,autoPromote}') = 'boolean'
        THEN settings #> '{deploymentDefaults,autoPromote}' END,
      'healthCheckTimeout', CASE WHEN jsonb_typeof(settings #> '{deploymentDefaults,healthCheckTimeout}') = 'number'
        THEN to_jsonb(least(greatest((settings #>> '{deploymentDefaults,healthCheckTimeout}')::NUMERIC::INTEGER, 1), 600)) END)))),
  created_at = coalesce(created_at, updated_at, NOW()),
  updated_at = coalesce(updated_at, created_at, NOW());
UPDATE team_members SET
  role = CASE WHEN role IN ('owner', 'admin', 'member', 'viewer') THEN role ELSE 'viewer' END,
  joined_at = coalesce(joined_at, NOW());
UPDATE projects SET
  type = CASE WHEN type IN ('nextjs', 'remix', 'nodejs', 'python', 'go') THEN type ELSE 'nextjs' END,
  created_at = coalesce(created_at, updated_at, NOW()),
  updated_at = coalesce(updated_at, created_at, NOW());
UPDATE project_slots SET
  active_slot = CASE WHEN active_slot IN ('blue', 'green') THEN active_slot ELSE 'blue' END,
  blue_state = CASE WHEN blue_state IN ('empty', 'deployed', 'active', 'grace') THEN blue_state ELSE 'empty' END,
  green_state = CASE WHEN green_state IN ('empty', 'deployed', 'active', 'grace') THEN green_state ELSE 'empty' END,
  blue_health_status = coalesce(blue_health_status, 'unknown'),
  green_health_status = coalesce(green_health_status, 'unknown'),
  updated_at = coalesce(updated_at, NOW());
UPDATE deployments SET
  status = CASE WHEN status IN ('pending', 'running', 'success', 'failed') THEN status ELSE 'failed' END,
  steps = CASE WHEN jsonb_typeof(steps) = 'array' THEN (
    SELECT coalesce(jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
      'name', coalesce(s ->> 'name', 'step'),
      'status', CASE WHEN s ->> 'status' IN ('pending', 'running', 'success', 'failed', 'skipped') THEN s ->> 'status' ELSE 'success' END,
      'duration', CASE WHEN jsonb_typeof(s -> 'duration') = 'number' THEN (s ->> 'duration')::NUMERIC::BIGINT END,
      'detail', coalesce(s ->> 'detail', s ->> 'error', s ->> 'output')
    )) ORDER BY n), '[]') FROM jsonb_array_elements(steps) WITH ORDINALITY AS x(s, n) WHERE jsonb_typeof(s) = 'object'
  ) ELSE '[]' END,
  created_at = coalesce(created_at, completed_at, NOW());
UPDATE domains SET
  type = CASE WHEN type IN ('subdomain', 'custom') THEN type ELSE 'custom' END,
  status = CASE WHEN status IN ('pending', 'active', 'error') THEN status ELSE 'pending' END,
  ssl_enabled = coalesce(ssl_enabled, true),
  dns_configured = coalesce(dns_configured, false),
  caddy_configured = coalesce(caddy_configured, false),
  created_at = coalesce(created_at, updated_at, NOW()),
  updated_at = coalesce(updated_at, created_at, NOW());
UPDATE project_envs SET
  env_data = (SELECT coalesce(jsonb_object_agg(k, coalesce(v, '')), '{}') FROM jsonb_each_text(env_data) AS x(k, v)),
  encrypted = coalesce(encrypted, false),
  version = coalesce(version, 1),
  created_at = coalesce(created_at, updated_at, NOW()),
  updated_at = coalesce(updated_at, created_at, NOW());
UPDATE work_tasks t SET
  team_id = coalesce(team_id, (SELECT p.team_id FROM projects p WHERE p.name = t.project_name)),
  title = coalesce(nullif(title, ''), '(untitled)'),
  status = CASE WHEN status IN ('draft', 'in-progress', 'review', 'done', 'deployed', 'cancelled') THEN status ELSE 'draft' END,
  priority = CASE WHEN priority IN ('low', 'medium', 'high', 'critical') THEN priority ELSE 'medium' END,
  pr_number = CASE WHEN pr_number >= 1 THEN pr_number END,
  affected_files = pg_temp.texts(affected_files),
  affected_areas = pg_temp.texts(affected_areas),
  progress_notes = CASE WHEN jsonb_typeof(progress_notes) = 'array' THEN (
    SELECT coalesce(jsonb_agg(jsonb_build_object(
      'date', pg_temp.moment(x.e ->> 'date', coalesce(t.updated_at, NOW())),
      'note', coalesce(nullif(left(coalesce(x.e ->> 'note', x.e #>> '{}'), 10000), ''), '(empty)'),
      'author', left(coalesce(x.e ->> 'author', t.author), 255)
    ) ORDER BY x.n), '[]') FROM jsonb_array_elements(t.progress_notes) WITH ORDINALITY AS x(e, n)
  ) ELSE '[]' END,
  created_at = coalesce(created_at, updated_at, NOW()),
  updated_at = coalesce(updated_at, created_at, NOW());
DROP FUNCTION pg_temp.moment(TEXT, TIMESTAMPTZ);
DROP FUNCTION pg_temp.texts(JSONB);

-- A key whose scopes cannot be read may do nothing: an empty list would mean everything.
ALTER TABLE api_keys ADD COLUMN revoked_at TIMESTAMPTZ;
UPDATE api_keys SET
  key_hash = lower(key_hash),
  role = CASE WHEN role IN ('owner', 'admin', 'member', 'viewer') THEN role ELSE 'viewer' END,
  name = coalesce(nullif(name, ''), id),
  revoked_at = CASE WHEN jsonb_typeof(scopes) NOT IN ('array', 'null') THEN NOW() END,
  scopes = CASE WHEN jsonb_typeof(scopes) = 'array' THEN scopes ELSE '[]' END,
  rate_limit = CASE WHEN jsonb_typeof(rate_limit) = 'number' AND (rate_limit #>> '{}')::NUMERIC >= 1
    THEN to_jsonb((rate_limit #>> '{}')::NUMERIC::INTEGER) END,
  created_at = coalesce(created_at, NOW());

ALTER TABLE teams
  ADD COLUMN rev BIGINT NOT NULL DEFAULT 1,
  ALTER COLUMN plan SET NOT NULL, ALTER COLUMN settings SET NOT NULL,
  ALTER COLUMN created_at SET NOT NULL, ALTER COLUMN updated_at SET NOT NULL,
  ADD CONSTRAINT teams_id_check CHECK (id ~ '^[a-z0-9][a-z0-9-]{0,31}$'),
  ADD CONSTRAINT teams_slug_check CHECK (slug ~ '^[a-z0-9][a-z0-9-]{0,99}$'),
  ADD CONSTRAINT teams_plan_check CHECK (plan IN ('free', 'pro', 'enterprise'));
ALTER TABLE team_members
  ADD COLUMN rev BIGINT NOT NULL DEFAULT 1,
  ALTER COLUMN team_id SET NOT NULL, ALTER COLUMN joined_at SET NOT NULL,
  ADD CONSTRAINT team_members_role_check CHECK (role IN ('owner', 'admin', 'member', 'viewer'));
ALTER TABLE api_keys
  ADD COLUMN rev BIGINT NOT NULL DEFAULT 1,
  ALTER COLUMN team_id SET NOT NULL, ALTER COLUMN scopes SET NOT NULL, ALTER COLUMN created_at SET NOT NULL,
  ADD CONSTRAINT api_keys_key_hash_check CHECK (key_hash ~ '^[0-9a-f]{64}$'),
  ADD CONSTRAINT api_keys_role_check CHECK (role IN ('owner', 'admin', 'member', 'viewer'));
ALTER TABLE projects
  ADD COLUMN rev BIGINT NOT NULL DEFAULT 1,
  ADD COLUMN uid VARCHAR(32) NOT NULL DEFAULT replace(gen_random_uuid()::TEXT, '-', ''),
  ADD COLUMN description VARCHAR(2000) NOT NULL DEFAULT '',
  ADD COLUMN path VARCHAR(1000),
  ALTER COLUMN team_id SET NOT NULL, ALTER COLUMN type SET NOT NULL,
  ALTER COLUMN created_at SET NOT NULL, ALTER COLUMN updated_at SET NOT NULL,
  ADD CONSTRAINT projects_name_check CHECK (name ~ '^[a-z0-9]([a-z0-9-]{0,98}[a-z0-9])?$'),
  ADD CONSTRAINT projects_type_check CHECK (type IN ('nextjs', 'remix', 'nodejs', 'python', 'go'));
ALTER TABLE project_slots
  ADD COLUMN rev BIGINT NOT NULL DEFAULT 1,
  ADD COLUMN uid TEXT GENERATED ALWAYS AS (project_name || '/' || environment) STORED UNIQUE,
  ALTER COLUMN project_name SET NOT NULL,
  ALTER COLUMN blue_state SET NOT NULL, ALTER COLUMN green_state SET NOT NULL,
  ALTER COLUMN blue_health_status SET NOT NULL, ALTER COLUMN green_health_status SET NOT NULL,
  ALTER COLUMN updated_at SET NOT NULL,
  ADD CONSTRAINT project_slots_environment_check CHECK (environment IN ('production', 'staging', 'preview')),
  ADD CONSTRAINT project_slots_active_slot_check CHECK (active_slot IN ('blue', 'green')),
  ADD CONSTRAINT project_slots_states_check CHECK (
    blue_state IN ('empty', 'deployed', 'active', 'grace') AND green_state IN ('empty', 'deployed', 'active', 'grace'));
ALTER TABLE deployments
  ADD COLUMN rev BIGINT NOT NULL DEFAULT 1,
  ALTER COLUMN project_name SET NOT NULL, ALTER COLUMN status SET NOT NULL,
  ALTER COLUMN steps SET NOT NULL, ALTER COLUMN created_at SET NOT NULL,
  ADD CONSTRAINT deployments_environment_check CHECK (environment IN ('production', 'staging', 'preview')),
  ADD CONSTRAINT deployments_slot_check CHECK (slot IN ('blue', 'green')),
  ADD CONSTRAINT deployments_status_check CHECK (status IN ('pending', 'running', 'success', 'failed'));
ALTER TABLE domains
  ADD COLUMN rev BIGINT NOT NULL DEFAULT 1,
  ALTER COLUMN project_name SET NOT NULL, ALTER COLUMN ssl_enabled SET NOT NULL, ALTER COLUMN dns_configured SET NOT NULL,
  ALTER COLUMN caddy_configured SET NOT NULL, ALTER COLUMN status SET NOT NULL,
  ALTER COLUMN created_at SET NOT NULL, ALTER COLUMN updated_at SET NOT NULL,
  ADD CONSTRAINT domains_environment_check CHECK (environment IN ('production', 'staging', 'preview')),
  ADD CONSTRAINT domains_type_check CHECK (type IN ('subdomain', 'custom')),
  ADD CONSTRAINT domains_status_check CHECK (status IN ('pending', 'active', 'error'));
ALTER TABLE project_envs
  ADD COLUMN rev BIGINT NOT NULL DEFAULT 1,
  ADD COLUMN uid TEXT GENERATED ALWAYS AS (project_name || '/' || environment) STORED UNIQUE,
  ALTER COLUMN project_name SET NOT NULL, ALTER COLUMN encrypted SET NOT NULL, ALTER COLUMN version SET NOT NULL,
  ALTER COLUMN created_at SET NOT NULL, ALTER COLUMN updated_at SET NOT NULL,
  ADD CONSTRAINT project_envs_environment_check CHECK (environment IN ('production', 'staging', 'preview'));
ALTER TABLE work_tasks
  ADD COLUMN rev BIGINT NOT NULL DEFAULT 1,
  ADD COLUMN uid VARCHAR(40),
  ALTER COLUMN team_id SET NOT NULL, ALTER COLUMN project_name SET NOT NULL,
  ALTER COLUMN affected_files SET NOT NULL, ALTER COLUMN affected_areas SET NOT NULL, ALTER COLUMN progress_notes SET NOT NULL,
  ALTER COLUMN created_at SET NOT NULL, ALTER COLUMN updated_at SET NOT NULL,
  ADD CONSTRAINT work_tasks_status_check CHECK (status IN ('draft', 'in-progress', 'review', 'done', 'deployed', 'cancelled')),
  ADD CONSTRAINT work_tasks_priority_check CHECK (priority IN ('low', 'medium', 'high', 'critical'));
UPDATE work_tasks SET uid = 'task-' || id;
ALTER TABLE work_tasks ALTER COLUMN uid SET NOT NULL, ADD CONSTRAINT work_tasks_uid_key UNIQUE (uid);

-- Every version of an environment, not only the present one.
CREATE TABLE project_env_versions (
  project_name VARCHAR(100) NOT NULL REFERENCES projects(name) ON DELETE CASCADE ON UPDATE CASCADE,
  environment VARCHAR(20) NOT NULL CHECK (environment IN ('production', 'staging', 'preview')),
  version INTEGER NOT NULL,
  uid TEXT GENERATED ALWAYS AS (project_name || '/' || environment || '/' || version::TEXT) STORED UNIQUE,
  env_data JSONB NOT NULL,
  encrypted BOOLEAN NOT NULL DEFAULT false,
  created_by VARCHAR(255),
  created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
  rev BIGINT NOT NULL DEFAULT 1,
  PRIMARY KEY (project_name, environment, version)
);
INSERT INTO project_env_versions (project_name, environment, version, env_data, encrypted, created_by, created_at)
  SELECT project_name, environment, version, env_data, encrypted, created_by, updated_at FROM project_envs;
UPDATE audit_logs SET timestamp = coalesce(timestamp, created_at, NOW()), success = coalesce(success, true)
  WHERE timestamp IS NULL OR success IS NULL;
ALTER TABLE audit_logs ALTER COLUMN timestamp SET NOT NULL, ALTER COLUMN success SET NOT NULL;
