-- Backups of Quaymaster itself lie beside those of databases; a registry's files are of no database engine.

ALTER TABLE backups ALTER COLUMN engine DROP NOT NULL;
