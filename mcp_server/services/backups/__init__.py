"""Backups of databases: made, proved, listed, restored; and branches, copies for a task."""
