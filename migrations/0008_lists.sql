-- Lists are paged by keyset, in code point order whatever the database's locale.

CREATE INDEX audit_logs_by_team ON audit_logs (team_id, timestamp DESC, id COLLATE "C");
CREATE INDEX teams_by_id ON teams (id COLLATE "C");
CREATE INDEX team_members_by_team ON team_members (team_id, id COLLATE "C");
CREATE INDEX api_keys_by_team ON api_keys (team_id, id COLLATE "C");
CREATE INDEX projects_by_team ON projects (team_id, name COLLATE "C");
CREATE INDEX deployments_by_project ON deployments (project_name, created_at DESC, id COLLATE "C");
CREATE INDEX deployments_by_environment ON deployments (project_name, environment, created_at DESC, id COLLATE "C");
CREATE INDEX domains_by_project ON domains (project_name, domain COLLATE "C");
CREATE INDEX work_tasks_by_project ON work_tasks (project_name, created_at DESC, uid COLLATE "C");
CREATE INDEX work_task_files_standing ON work_task_files (project_name) WHERE status = 'locked';
CREATE INDEX work_task_files_standing_of_task ON work_task_files (task_uid) WHERE status = 'locked';
