"""Which tables are Alembic's own account."""

from mcp_server.domain.schemas.catalogs import Catalog, Column, Table, accounts_of_alembic


def test_the_account_is_known_by_its_usual_name_or_by_its_one_column():
    def table(name: str, *columns: str) -> Table:
        return Table(name, tuple(Column(each, "text") for each in columns))

    tables = (
        table("public.alembic_version", "version_num", "applied_at"),
        table('meta."Our Versions"', "version_num"),
        table("public.releases", "version_num", "notes"),
        table("public.alembic_version_notes", "id"),
    )
    catalog = Catalog("postgres", tables={each.name: each for each in tables})
    assert accounts_of_alembic(catalog) == ('meta."Our Versions"', "public.alembic_version")
