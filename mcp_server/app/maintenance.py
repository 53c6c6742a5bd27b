"""What the command line does beside serving: migrations, the proxy's configuration, secrets, the registry."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mcp_server.adapters.backup_files.sealed import SealedFiles
from mcp_server.adapters.registry.mirror import RegistryMirror
from mcp_server.app.hosting import routing_of
from mcp_server.app.house import House, open_app
from mcp_server.app.stores import away, primary_of, store_over
from mcp_server.app.workplace import workplace
from mcp_server.config import Settings
from mcp_server.domain.errors import Conflict, Invalid, QuaymasterError
from mcp_server.domain.nouns import RECORDS
from mcp_server.domain.records import Record
from mcp_server.ports.mirror import Claim, Gone, Outage
from mcp_server.services.resealing import Resealing

if TYPE_CHECKING:
    from mcp_server.adapters.postgres.migrations import Status as MigrationStatus
    from mcp_server.adapters.registry.maintenance import Report


async def migrations(settings: Settings, *, up: bool) -> list[tuple[str, str]]:
    """Every migration by name with its state, in order; with `up` the pending ones are applied first.

    States: applied, pending, and what is wrong: changed, missing, unknown.
    """
    primary = primary_of(settings)
    try:
        if up:
            await primary.migrations.up()
        return _migration_states(await primary.migrations.status())
    except Outage as outage:
        raise away(outage.reason, settings) from outage
    finally:
        await primary.close()


def _migration_states(status: MigrationStatus) -> list[tuple[str, str]]:
    wrong = dict.fromkeys(status.changed, "changed") | dict.fromkeys(status.missing, "missing")
    rows = []
    for each in status.applied:
        name = each.name or f"{each.version:04d}"
        rows.append((name, "unknown" if each.version in status.newer else wrong.get(name, "applied")))
    return [*rows, *((each.name, "pending") for each in status.pending)]


async def edge_config(settings: Settings, version: str | None = None) -> str:
    """The configuration that the proxy is to run; `version` of Caddy, where it is not the one of this machine.

    Raises Invalid where Quaymaster writes none.
    """
    from mcp_server.adapters.edge.caddy.edge import CaddyEdge

    mirror = await RegistryMirror.open(settings.home)
    try:
        async with workplace(settings, mirror) as place:
            if isinstance(place.edge, CaddyEdge):
                return await place.edge.configuration(version)
    finally:
        mirror.close()
    if settings.edge == "nginx":
        return f"include {(settings.edge_dir or settings.home / 'edge') / 'nginx.conf'};\n"
    raise Invalid("there is no proxy to configure", next="Set QUAYMASTER_EDGE to caddy or nginx.")


async def edge_check(settings: Settings) -> Sequence[str]:
    """What is wrong with the proxy, and where its state and its answers differ from the store, a sentence each."""
    mirror = await RegistryMirror.open(settings.home)
    async with store_over(mirror, settings) as (store, _), workplace(settings, mirror) as place:
        problems = await place.edge.check()
        try:
            return (*problems, *await routing_of(settings, store, place).differences())
        except QuaymasterError as error:
            return (*problems, f"The proxy's state was not compared with the store: {error.message}.")


def secrets_rotate(settings: Settings) -> str | None:
    """A new key in the home's file; or, where a setting holds the key, the new one to set, the present one kept."""
    from mcp_server.adapters.sealing import keys

    present = settings.encryption_key()
    if present is None:
        keys.rotate(settings.home)
        return None
    keys.keep(settings.home, present)
    return secrets.token_hex(32)


async def secrets_reseal(settings: Settings) -> tuple[int, Sequence[str]]:
    """How many records and files were sealed with the newest key, and what was left, in sentences."""
    async with open_app(settings) as house:
        done = await _resealing(house).run()
        return done.sealed, done.left


async def secrets_forget(settings: Settings) -> int:
    """Forget the older keys; how many. Raises Conflict while anything is left that one of them sealed, or may come:
    a transaction that began before the newest key may still store what an older one sealed.
    """
    from mcp_server.adapters.sealing import keys

    if (wait := keys.SETTLED_SECONDS - keys.seconds_since_a_change(settings.home)) > 0:
        raise Conflict(
            "the key file was changed a moment ago: calls that began before may still store what older keys sealed",
            next=f"Call again in {wait:.0f} s.",
        )
    async with open_app(settings) as house:
        for _ in range(2):
            done = await _resealing(house).run()
        if done.sealed or done.left:
            raise Conflict(
                f"older keys are still needed: {'; '.join(done.left[:5]) or 'secrets are written at this moment'}",
                next="quaymaster secrets rotate --reseal-only tells what is left; then call again.",
            )
        return keys.forget_older(settings.home, by_setting=settings.encryption_key() is not None)


async def secrets_reset(settings: Settings) -> Sequence[str]:
    """A new key in the home's file; the records that no key opens any more, whose variables can be set again."""
    from mcp_server.adapters.sealing import keys

    if settings.encryption_key() is None:
        keys.begin_anew(settings.home)
    async with open_app(settings) as house:
        return await _resealing(house).give_up()


def _resealing(house: House) -> Resealing:
    sealer = house.databases.parts.sealer
    files = SealedFiles(house.settings.home / "backups", sealer)
    return Resealing(house.store, sealer, files, house.hosting.site.home)


def registry_report(settings: Settings) -> Report:
    from mcp_server.adapters.registry import maintenance

    return maintenance.verify(settings.home)


async def registry_set_aside(settings: Settings) -> Sequence[str]:
    from mcp_server.adapters.registry import maintenance

    return await maintenance.set_aside(settings.home)


async def registry_compact(settings: Settings) -> None:
    from mcp_server.adapters.registry import maintenance

    await maintenance.compact(settings.home)


def registry_export(settings: Settings) -> dict[str, Any]:
    from mcp_server.adapters.registry import maintenance

    return maintenance.export(settings.home)


async def registry_import(settings: Settings) -> dict[str, int]:
    """Bring the records of this home into the empty PostgreSQL; how many of each noun."""
    from mcp_server.adapters.failover.importing import bring_over

    primary = primary_of(settings)
    mirror = await RegistryMirror.open(settings.home)
    try:
        exported = registry_export(settings)
        return await bring_over(primary, mirror, _records_of(exported), _gone_of(exported))
    except Outage as outage:
        raise away(outage.reason, settings) from outage
    finally:
        mirror.close()
        await primary.close()


async def registry_claim(settings: Settings, *, force: bool) -> Claim:
    """Which homes share PostgreSQL, and which one may grant alone; this home asks to be admitted.

    `force`: a person says that the home which may grant alone, or the one that this is a copy of, is gone.
    """
    from mcp_server.adapters.failover.membership import Membership

    primary = primary_of(settings)
    mirror = await RegistryMirror.open(settings.home)
    try:
        await primary.prepare()
        facts = await mirror.refresh()
        return await (
            Membership(primary, mirror, facts).force() if force else primary.claim(facts.home, facts.place)
        )
    except Outage as outage:
        raise away(outage.reason, settings) from outage
    finally:
        mirror.close()
        await primary.close()


def _gone_of(exported: dict[str, Any]) -> list[Gone]:
    return [
        Gone(each["noun"], each["key"], each["rev"], datetime.fromisoformat(each["at"]))
        for each in exported["gone"]
    ]


def _records_of(exported: dict[str, Any]) -> list[Record]:
    """The records of an export, parents before children."""
    return [kind.model_validate(each) for kind in RECORDS for each in exported["records"].get(kind.noun, ())]
