"""Bringing a home's records into an empty PostgreSQL, on a person's word and with no server running."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import cast

from mcp_server.domain.errors import Conflict
from mcp_server.domain.records import Record
from mcp_server.ports.mirror import Gone, Mirror, Primary, Replaying
from mcp_server.ports.repositories import Repository
from mcp_server.ports.store import Intent, Reading

BATCH = 500


async def bring_over(
    primary: Primary, mirror: Mirror, records: Sequence[Record], gone: Sequence[Gone]
) -> dict[str, int]:
    """Add all `records`, parents before children, and leave the home as one that PostgreSQL adopts at the next start.
    Revisions go on where they were, also those of what is `gone`.

    Returns how many of each noun. All of them in one transaction. Raises Conflict when PostgreSQL has a team
    already, and Outage. An import that was cut off after that transaction is finished by the next one.
    """
    identity = await primary.prepare()
    before = await mirror.refresh()
    line_id = f"import-{before.home}"
    adopted = (
        before.position is not None
        and before.position.installation == identity.installation
        and await primary.has(before.position)
    )
    done = not adopted and await primary.applied(line_id) is not None
    if not done and await primary.read(_has_teams):
        raise Conflict(
            "PostgreSQL holds teams already; an import goes into an empty one only",
            next="Name an empty database, or set QUAYMASTER_HOME to a new directory to use this one as it is.",
        )
    async with mirror.switching():
        facts = await mirror.refresh()

        async def add_all(tx: Replaying) -> None:
            for record in records:
                repository = cast("Repository[Record]", tx.repository(record.noun))
                await repository.add(record.change(rev=0))

        await primary.continue_as(facts.position.installation if facts.position else facts.home, facts.home)
        epoch = facts.epoch + 1
        intent = Intent("registry_import", "quaymaster")
        if not done:
            await primary.count_on([*gone, *_before(records, facts.since)])
            await primary.run(add_all, intent, line_id=line_id, epoch=epoch)
        await primary.raise_epoch(epoch)
        await _settle(primary, mirror)
        await mirror.set_mode("embedded", epoch=epoch, reason=None)
    return dict(Counter(record.noun for record in records))


def _before(records: Sequence[Record], at: datetime) -> list[Gone]:
    """As if the records had been deleted just before the revisions that they have."""
    return [Gone(record.noun, record.key, record.rev - 1, at) for record in records if record.rev > 1]


async def _settle(primary: Primary, mirror: Mirror) -> None:
    """Lines that waited for PostgreSQL are part of what it was just given; audit rows follow them."""
    while lines := await mirror.pending(BATCH):
        for line in lines:
            await primary.record(line.audit, {})
            await mirror.settle(line.id)
    while True:
        rows, mark = await mirror.audit_backlog(BATCH)
        if not rows:
            return
        await primary.record(rows, {})
        await mirror.audit_settled(mark)


async def _has_teams(tx: Reading) -> bool:
    return bool((await tx.teams.list(limit=1)).items)
