"""After a new key every stored secret is sealed with it, and says what it said."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from mcp_server.adapters.sealing.aes import AesSealer
from mcp_server.adapters.sealing.keys import forget_older, rotate, setting_and_file
from mcp_server.domain.environments import EnvironmentVersion
from mcp_server.ports.store import Transaction
from mcp_server.services.environments import Vault
from mcp_server.services.resealing import Resealing
from tests.usecases.conftest import make_world as make_world
from tests.usecases.world import SETUP, World


async def test_variables_open_without_the_older_key_once_they_were_sealed_anew(
    make_world: Callable[..., Awaitable[World]], tmp_path: Path
):
    world = await make_world()
    await world.do(world.caller(), "create_project", name="shop")
    project = await world.store.read(lambda tx: tx.projects.get("shop"))
    assert project is not None
    keys = setting_and_file(None, tmp_path)
    data = Vault(AesSealer(keys)).sealed(project, "production", 3, {"TOKEN": "s3cret"})

    async def write(tx: Transaction) -> None:
        await tx.environment_versions.add(
            EnvironmentVersion(
                project="shop", environment="production", version=3, env_data=data, encrypted=True,
                created_at=await tx.now(),
            )
        )  # fmt: skip

    await world.store.run(write, SETUP)
    rotate(tmp_path)
    done = await Resealing(world.store, AesSealer(keys), "home").run()
    assert (done.sealed, done.left) == (1, ())
    assert (await Resealing(world.store, AesSealer(keys), "home").run()).sealed == 0
    forget_older(tmp_path)
    kept = await world.store.read(lambda tx: tx.environment_versions.get("shop/production/3"))
    assert kept is not None
    opened = Vault(AesSealer(keys)).opened(project, "production", kept.env_data, encrypted=True)
    assert opened == {"TOKEN": "s3cret"}
    rotate(tmp_path)
    forget_older(tmp_path)
    assert await Resealing(world.store, AesSealer(keys), "home").unreadable() == (
        "environment_versions shop/production/3",
    )
