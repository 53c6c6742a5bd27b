"""Real parts for tests: PostgreSQL servers, a proxy that misbehaves on request, server processes."""
