"""One statement on a project's database, on a session of its own."""
