"""Databases that move from SQLite to PostgreSQL, and back."""
