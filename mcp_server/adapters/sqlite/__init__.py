"""SQLite databases of projects."""
