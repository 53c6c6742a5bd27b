"""Definitions are compared as they are after a dump, whichever side they come from."""

from __future__ import annotations

import pytest

from mcp_server.adapters.project_sql.definitions import settled
from tests.backups.conftest import Vault, make_yard, store, vault, yard

__all__ = ["make_yard", "store", "vault", "yard"]

CAST = "CHECK (((e)::text = ANY ((ARRAY['a''], '::character varying, 'b'::character varying])::text[])))"
CASTS = (
    "CHECK (((e)::text = ANY (ARRAY[('a''], '::character varying)::text, ('b'::character varying)::text])))"
)


def test_a_cast_list_and_a_list_of_casts_are_the_same() -> None:
    assert settled(CAST) == CASTS
    assert settled(CASTS) == CASTS


@pytest.mark.parametrize(
    "text",
    [
        "CHECK ((n = ANY (ARRAY[1, 2])))",
        "CHECK ((n = ANY ((ARRAY[1, 2])::bigint[])))",
        "DEFAULT '(ARRAY['::text",
        "SELECT (ARRAY[ARRAY[1, 2], ARRAY[3, 4]])[1]",
        "",
    ],
)
def test_everything_else_stays_as_it_is(text: str) -> None:
    assert settled(text) == text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (CAST, CAST.replace("'b'", "'c'")),
        (CAST, CAST.replace("= ANY", "<> ALL")),
        (CAST, CAST.replace(", 'b'::character varying", "")),
    ],
)
def test_other_definitions_stay_different(one: str, other: str) -> None:
    assert settled(one) != settled(other)


async def test_a_column_of_listed_words_is_backed_up_and_restored(vault: Vault) -> None:
    await vault.yard.create(engine="postgres")
    await vault.sql(
        "CREATE TABLE pets (kind VARCHAR(9) CHECK (kind IN ('cat', 'dog')), name VARCHAR(9) DEFAULT 'x')",
        "CREATE INDEX few ON pets (name) WHERE kind NOT IN ('dog', 'cow')",
        "CREATE VIEW cats AS SELECT name FROM pets WHERE kind IN ('cat', name)",
        "INSERT INTO pets VALUES ('cat', 'mia')",
    )
    made = await vault.back_up()
    assert made.state == "verified", made.error
    await vault.sql("DELETE FROM pets")
    assert (await vault.restore(made.id)).status == "done"
    assert await vault.sql("SELECT name FROM cats") == "mia"
    assert (await vault.back_up()).state == "verified"
