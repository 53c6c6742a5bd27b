-- A grant looks at the locks that may overlap it, that have ended or that are its holder's: not at all of a project.

-- The leading names of a pattern that have no wildcard, each with its slash. Two patterns can only overlap where the
-- root of one begins with the root of the other.
CREATE FUNCTION lock_root(path TEXT) RETURNS TEXT LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
  AS $$ SELECT substring(path || '/' FROM '^(?:[^*?/]+/)*') $$;

CREATE INDEX work_task_files_by_root ON work_task_files (project_name, lock_root(file_path) COLLATE "C")
  WHERE status = 'locked';
CREATE INDEX work_task_files_by_expiry ON work_task_files (project_name, expires_at) WHERE status = 'locked';
CREATE INDEX work_task_files_by_holder ON work_task_files (project_name, md5(holder)) WHERE status = 'locked';
DROP INDEX work_task_files_standing;
