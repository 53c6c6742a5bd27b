"""PostgreSQL as the truth: pool, migrations, repositories, change log."""
