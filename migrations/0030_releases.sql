-- What a deployment is made of, where it runs, and the switch of a slot pair.

ALTER TABLE project_slots
  ADD COLUMN blue_deployment VARCHAR(32),
  ADD COLUMN green_deployment VARCHAR(32),
  ADD COLUMN home TEXT,
  ADD COLUMN host TEXT,
  ADD COLUMN host_name TEXT,
  ADD COLUMN previous VARCHAR(32),
  ADD COLUMN switch JSONB;
CREATE INDEX project_slots_by_home ON project_slots (home, uid COLLATE "C");

ALTER TABLE deployments
  ADD COLUMN home TEXT,
  ADD COLUMN host TEXT,
  ADD COLUMN worker TEXT,
  ADD COLUMN release JSONB,
  ADD COLUMN task_id VARCHAR(40),
  ADD COLUMN changed_paths JSONB NOT NULL DEFAULT '[]',
  ADD COLUMN cancelled_by VARCHAR(255),
  ADD COLUMN error VARCHAR(2000),
  ADD COLUMN receipt JSONB;

-- Nobody works on what ran before leases were kept.
UPDATE deployments SET status = 'failed', error = 'it was broken off', completed_at = coalesce(completed_at, created_at),
  rev = rev + 1
  WHERE status = 'running';

-- The reservation: of two that deploy to one environment at one time, one finds it taken.
CREATE UNIQUE INDEX deployments_one_running ON deployments (project_name, environment) WHERE status = 'running';
CREATE INDEX deployments_running_by_home ON deployments (home, id COLLATE "C") WHERE status = 'running';
