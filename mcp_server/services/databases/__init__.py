"""Databases of projects: made, claimed, shown, changed, deleted, and put right after a crash."""
