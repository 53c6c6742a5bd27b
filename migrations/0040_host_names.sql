-- A host name belongs to one project or domain. Names that two projects would share are no columns of theirs, so no
-- constraint can compare them: who adds a project or a domain waits here for the one before, then looks.

CREATE FUNCTION one_at_a_time_for_host_names() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('quaymaster host names ' || current_schema(), 0));
  RETURN NULL;
END $$;

CREATE TRIGGER projects_one_at_a_time BEFORE INSERT ON projects
  FOR EACH STATEMENT EXECUTE FUNCTION one_at_a_time_for_host_names();
CREATE TRIGGER domains_one_at_a_time BEFORE INSERT ON domains
  FOR EACH STATEMENT EXECUTE FUNCTION one_at_a_time_for_host_names();
