-- Locks become leases with a holder and a fence, within a project. A removed lock stays, as 'released': the history.
-- Two exclusive locks on one path cannot be, whatever the server believes.

CREATE TABLE lock_scopes (
  project_name VARCHAR(100) PRIMARY KEY REFERENCES projects(name) ON DELETE CASCADE ON UPDATE CASCADE,
  fence BIGINT NOT NULL DEFAULT 0,
  lost JSONB NOT NULL DEFAULT '[]',
  rev BIGINT NOT NULL DEFAULT 1
);

-- A task that is deleted leaves the history of its locks.
ALTER TABLE work_task_files
  DROP CONSTRAINT work_task_files_task_id_fkey,
  ADD CONSTRAINT work_task_files_task_id_fkey FOREIGN KEY (task_id) REFERENCES work_tasks(id) ON DELETE SET NULL,
  ADD COLUMN uid VARCHAR(40),
  ADD COLUMN project_name VARCHAR(100) REFERENCES projects(name) ON DELETE CASCADE ON UPDATE CASCADE,
  ADD COLUMN team_id VARCHAR(32),
  ADD COLUMN task_uid VARCHAR(40),
  ADD COLUMN holder VARCHAR(300),
  ADD COLUMN key_id TEXT,
  ADD COLUMN agent VARCHAR(200),
  ADD COLUMN fence BIGINT,
  ADD COLUMN expires_at TIMESTAMPTZ,
  ADD COLUMN lease_seconds INTEGER,
  ADD COLUMN rev BIGINT NOT NULL DEFAULT 1;

-- A lock of an earlier version had no lease: it gets the longest one from now, so that its holder can be asked.
UPDATE work_task_files f SET
  uid = 'lock-' || f.id,
  project_name = t.project_name,
  team_id = t.team_id,
  task_uid = t.uid,
  holder = 'upgraded/task:' || t.uid,
  lock_type = CASE WHEN f.lock_type IN ('editing', 'reviewing') THEN f.lock_type ELSE 'editing' END,
  status = CASE WHEN f.status IN ('locked', 'released') THEN f.status WHEN f.released_at IS NULL THEN 'locked' ELSE 'released' END,
  change_description = left(f.change_description, 2000),
  locked_at = coalesce(f.locked_at, NOW()),
  fence = f.id,
  expires_at = NOW() + INTERVAL '1 day',
  lease_seconds = 86400
  FROM work_tasks t WHERE t.id = f.task_id;

-- Of two exclusive locks on one path, and of two locks of one holder on it, the earlier stays.
WITH ranked AS (
  SELECT id, lock_type,
    row_number() OVER (PARTITION BY project_name, file_path, lock_type ORDER BY id) AS among_all,
    row_number() OVER (PARTITION BY project_name, file_path, holder ORDER BY id) AS among_own
  FROM work_task_files WHERE status = 'locked'
), ended AS (
  UPDATE work_task_files f SET status = 'released', released_at = NOW()
  FROM ranked r WHERE r.id = f.id AND (r.among_own > 1 OR (r.lock_type = 'editing' AND r.among_all > 1))
  RETURNING f.*
)
INSERT INTO upgrade_leftovers (table_name, key, reason, content)
  SELECT 'work_task_files', id::TEXT, 'released: an earlier lock held the path', to_jsonb(ended) FROM ended;
UPDATE work_task_files SET released_at = NOW() WHERE status = 'released' AND released_at IS NULL;

INSERT INTO lock_scopes (project_name, fence)
  SELECT project_name, max(fence) FROM work_task_files GROUP BY project_name;

ALTER TABLE work_task_files
  ALTER COLUMN uid SET NOT NULL, ALTER COLUMN project_name SET NOT NULL, ALTER COLUMN team_id SET NOT NULL,
  ALTER COLUMN holder SET NOT NULL, ALTER COLUMN fence SET NOT NULL, ALTER COLUMN expires_at SET NOT NULL,
  ALTER COLUMN lease_seconds SET NOT NULL, ALTER COLUMN locked_at SET NOT NULL,
  ADD CONSTRAINT work_task_files_lock_type_check CHECK (lock_type IN ('editing', 'reviewing')),
  ADD CONSTRAINT work_task_files_status_check CHECK (status IN ('locked', 'released'));

CREATE UNIQUE INDEX work_task_files_standing_uid ON work_task_files (uid) WHERE status = 'locked';
CREATE UNIQUE INDEX work_task_files_one_editor ON work_task_files (project_name, file_path)
  WHERE status = 'locked' AND lock_type = 'editing';
-- Digests, because a path and a holder together may be longer than an index entry.
CREATE UNIQUE INDEX work_task_files_one_of_holder ON work_task_files (project_name, md5(file_path), md5(holder))
  WHERE status = 'locked';
