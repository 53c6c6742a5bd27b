"""Schemas of a code base's databases: what folders, migrations, statements and differences are."""
