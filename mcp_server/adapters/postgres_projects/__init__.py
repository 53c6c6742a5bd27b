"""PostgreSQL servers of projects, spoken to over TCP."""
