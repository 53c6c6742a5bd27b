-- How many tasks of a team are open is asked whenever one is created.
CREATE INDEX work_tasks_open ON work_tasks (team_id) WHERE status IN ('draft', 'in-progress', 'review');
