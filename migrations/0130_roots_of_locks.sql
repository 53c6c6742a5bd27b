-- Where a lock stands is kept beside it, and each look at the locks of a project names what only its own index begins
-- with: with the project's name alone every index looked as good as any other to the planner. Planned once: it planned
-- anew for each grant, which took longer than the look itself.
DROP INDEX work_task_files_by_root, work_task_files_by_expiry, work_task_files_by_holder;
ALTER TABLE work_task_files
  ADD COLUMN place TEXT COLLATE "C" GENERATED ALWAYS AS (project_name || '/' || lock_root(file_path)) STORED;
CREATE INDEX work_task_files_by_place ON work_task_files (place) WHERE status = 'locked';
CREATE INDEX work_task_files_by_expiry ON work_task_files ((project_name || '/'), expires_at) WHERE status = 'locked';
CREATE INDEX work_task_files_by_holder ON work_task_files (md5(project_name || '/' || holder)) WHERE status = 'locked';
CREATE INDEX work_task_files_of_project ON work_task_files (project_name, file_path COLLATE "C") WHERE status = 'locked';

-- Leases that have ended are looked for in all projects at once, and what was released long ago once a minute.
CREATE INDEX work_task_files_ending ON work_task_files (expires_at) WHERE status = 'locked';
CREATE INDEX work_task_files_released ON work_task_files (released_at) WHERE status = 'released';

CREATE OR REPLACE FUNCTION locks_near(
    wanted TEXT, above TEXT[], below TEXT[], past TEXT[], until TIMESTAMPTZ, whose TEXT, whole BOOLEAN
  )
  RETURNS SETOF work_task_files LANGUAGE plpgsql VOLATILE ROWS 10 SET plan_cache_mode = force_generic_plan
  AS $$
    BEGIN
      RETURN QUERY
        SELECT r.* FROM unnest(above) AS root JOIN work_task_files r
          ON r.status = 'locked' AND r.place = wanted || '/' || root
        UNION
        SELECT r.* FROM unnest(below, past) AS roots (low, high) JOIN work_task_files r
          ON r.status = 'locked' AND r.place > wanted || '/' || roots.low AND r.place < wanted || '/' || roots.high
        UNION
        SELECT r.* FROM work_task_files r
        WHERE r.status = 'locked' AND r.project_name || '/' = wanted || '/' AND r.expires_at <= until
        UNION
        SELECT r.* FROM work_task_files r
        WHERE whole AND r.status = 'locked' AND md5(r.project_name || '/' || r.holder) = md5(wanted || '/' || whose)
          AND r.holder = whose;
    END
  $$;

CREATE OR REPLACE FUNCTION locks_of_holder(wanted TEXT, whose TEXT, ids TEXT[])
  RETURNS TABLE (held BIGINT, gone BIGINT[]) LANGUAGE plpgsql VOLATILE ROWS 1
  SET plan_cache_mode = force_generic_plan
  AS $$
    BEGIN
      RETURN QUERY SELECT
        (SELECT count(*) FROM work_task_files f
          WHERE f.status = 'locked' AND md5(f.project_name || '/' || f.holder) = md5(wanted || '/' || whose)
            AND f.holder = whose),
        ARRAY(SELECT coalesce(t.rev, 0) FROM unnest(ids) WITH ORDINALITY AS id (name, place)
          LEFT JOIN tombstones t ON t.noun = 'locks' AND t.key = id.name ORDER BY id.place);
    END
  $$;
