"""Caddy with one configuration for all projects, which never changes."""
