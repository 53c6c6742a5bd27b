-- Backups of databases that code bases have elsewhere, before their schemas are changed.

ALTER TABLE backups DROP CONSTRAINT backups_subject_check;
ALTER TABLE backups ADD CONSTRAINT backups_subject_check
  CHECK (subject IN ('database', 'outside', 'control_plane', 'registry'));
