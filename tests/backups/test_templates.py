"""The chat template on a real server, searched with real vectors."""

from __future__ import annotations

import random
from typing import Any

import asyncpg
import pytest

from mcp_server.adapters.project_sql.statements import ProjectScripts
from mcp_server.domain.database_templates import DIMENSIONS
from mcp_server.domain.errors import Conflict, Invalid
from mcp_server.services.templates import Templates
from tests.backups.conftest import Vault


async def apply(vault: Vault) -> Any:
    yard = vault.yard
    templates = Templates(yard.databases.parts, yard.databases.holding, ProjectScripts())
    return await vault.ask(
        templates.apply, "apply_database_template", project=yard.named("shop"), template="chat"
    )


def shown(vector: list[float]) -> str:
    return "[" + ",".join(f"{one:.5f}" for one in vector) + "]"


async def test_the_chat_template_finds_the_nearest_of_real_vectors_by_its_index(
    vault: Vault, rng: random.Random
) -> None:
    await vault.yard.create(engine="postgres", extensions=("vector",))
    made = await apply(vault)
    assert made.tables == (
        "public.chat_sessions", "public.embeddings", "public.messages", "public.user_preferences", "public.users",
    )  # fmt: skip
    assert (await apply(vault)).tables == ()
    connection = await asyncpg.connect(await vault.yard.url())
    try:
        user = await connection.fetchval("INSERT INTO users (email) VALUES ('Ann@example.org') RETURNING id")
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.execute("INSERT INTO users (email) VALUES ('ann@EXAMPLE.org')")
        session = await connection.fetchval(
            "INSERT INTO chat_sessions (user_id) VALUES ($1) RETURNING id", user
        )
        vectors = [[rng.gauss(0, 1) for _ in range(DIMENSIONS)] for _ in range(200)]
        for number, vector in enumerate(vectors):
            message = await connection.fetchval(
                "INSERT INTO messages (session_id, role, content) VALUES ($1, 'user', $2) RETURNING id",
                session,
                str(number),
            )
            await connection.execute(
                "INSERT INTO embeddings (message_id, content, embedding) VALUES ($1, $2, $3::TEXT::VECTOR)",
                message,
                str(number),
                shown(vector),
            )
        near = shown([one + rng.gauss(0, 0.05) for one in vectors[42]])
        query = "SELECT content FROM embeddings ORDER BY embedding <=> $1::TEXT::VECTOR LIMIT 3"
        async with connection.transaction():
            await connection.execute("SET LOCAL enable_seqscan = off")
            found = [row["content"] for row in await connection.fetch(query, near)]
            plan = await connection.fetch(f"EXPLAIN {query.replace('$1', repr(near))}")
        assert found[0] == "42"
        assert any("embeddings_nearest" in row[0] for row in plan)
        await connection.execute("DELETE FROM users")
        assert await connection.fetchval("SELECT count(*) FROM embeddings") == 0
    finally:
        await connection.close()


async def test_without_the_extension_or_without_postgresql_it_is_refused(vault: Vault) -> None:
    await vault.yard.create(engine="sqlite")
    with pytest.raises(Invalid, match="only with PostgreSQL"):
        await apply(vault)
    await vault.yard.delete(final_backup=False)
    await vault.yard.create(engine="postgres")
    with pytest.raises(Conflict, match="lacks the extension vector"):
        await apply(vault)
