-- To hold a project's scope and to read its locks in one statement: each query of a volatile function sees what was
-- committed until then, so the locks are read as they are once the scope is held, however long that took.

CREATE FUNCTION hold_lock_scope(wanted TEXT)
  RETURNS TABLE (project TEXT, fence BIGINT, lost JSONB, rev BIGINT, held_at TIMESTAMPTZ)
  LANGUAGE plpgsql VOLATILE ROWS 1
  AS $$
    BEGIN
      RETURN QUERY SELECT held.*, clock_timestamp() FROM (
        SELECT s.project_name::TEXT, s.fence, s.lost, s.rev FROM lock_scopes s WHERE s.project_name = wanted
        FOR NO KEY UPDATE
      ) AS held;
    END
  $$;

-- The locks whose root is one of `above` or lies between a root of `below` and what comes `past` it, those that end by
-- `until`, and with `whole` all of the holder's.
CREATE FUNCTION locks_near(
    wanted TEXT, above TEXT[], below TEXT[], past TEXT[], until TIMESTAMPTZ, whose TEXT, whole BOOLEAN
  )
  RETURNS SETOF work_task_files LANGUAGE plpgsql VOLATILE ROWS 10
  AS $$
    BEGIN
      RETURN QUERY SELECT f.* FROM work_task_files f WHERE f.id IN (
        SELECT r.id FROM work_task_files r
        WHERE r.project_name = wanted AND r.status = 'locked' AND lock_root(r.file_path) COLLATE "C" = ANY (above)
        UNION
        SELECT r.id FROM unnest(below, past) AS roots (low, high) JOIN work_task_files r
          ON r.project_name = wanted AND r.status = 'locked'
          AND lock_root(r.file_path) COLLATE "C" > roots.low AND lock_root(r.file_path) COLLATE "C" < roots.high
        UNION
        SELECT r.id FROM work_task_files r
        WHERE r.project_name = wanted AND r.status = 'locked' AND r.expires_at <= until
        UNION
        SELECT r.id FROM work_task_files r
        WHERE r.project_name = wanted AND r.status = 'locked' AND whole
          AND md5(r.holder) = md5(whose) AND r.holder = whose
      );
    END
  $$;

-- How many locks a holder has, and the revisions that these ids had when they were removed (0: never).
CREATE FUNCTION locks_of_holder(wanted TEXT, whose TEXT, ids TEXT[])
  RETURNS TABLE (held BIGINT, gone BIGINT[]) LANGUAGE plpgsql VOLATILE ROWS 1
  AS $$
    BEGIN
      RETURN QUERY SELECT
        (SELECT count(*) FROM work_task_files f
          WHERE f.project_name = wanted AND f.status = 'locked'
            AND md5(f.holder) = md5(whose) AND f.holder = whose),
        ARRAY(SELECT coalesce(t.rev, 0) FROM unnest(ids) WITH ORDINALITY AS id (name, place)
          LEFT JOIN tombstones t ON t.noun = 'locks' AND t.key = id.name ORDER BY id.place);
    END
  $$;
