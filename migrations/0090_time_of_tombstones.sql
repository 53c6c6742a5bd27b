-- When a record was deleted: a registry that is filled anew takes over what was deleted lately of what comes and goes, and
-- all that was deleted of the rest.
ALTER TABLE tombstones ADD COLUMN at TIMESTAMPTZ NOT NULL DEFAULT now();
