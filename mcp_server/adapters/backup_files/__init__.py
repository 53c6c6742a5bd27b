"""Backups on the disk of this host, sealed."""
