"""What may lose something: first planned and then, with somebody's consent, done.

The plan is made again under the lock, and anything that moved in between refuses it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mcp_server.domain.errors import PlanStale
from mcp_server.domain.schemas.catalogs import Catalog, differences
from mcp_server.domain.schemas.changes import Changes
from mcp_server.domain.schemas.danger import Action, Danger, digest_of
from mcp_server.domain.schemas.failures import Refused
from mcp_server.domain.schemas.folders import Folder
from mcp_server.domain.schemas.losses import Loss, lost_table
from mcp_server.domain.wording import counted
from mcp_server.ports.schemas import Session
from mcp_server.services.schemas import tokens
from mcp_server.services.schemas.comparing import statements_of
from mcp_server.services.schemas.ground import Ground, accounts, own
from mcp_server.services.schemas.losing import counted_losses, lost_behind

if TYPE_CHECKING:
    from mcp_server.services.schemas.estate import Kept

Event = Callable[[str], None]


class Pulled(NamedTuple):
    """`kept` is a copy of the schema.sql that was there before."""

    path: Path
    kept: Path | None

    def told(self, root: Path) -> str:
        before = "" if self.kept is None else f"; the one before is kept as {self.kept.relative_to(root)}"
        return f"wrote {self.path.name}{before}"


class _Way(NamedTuple):
    script: Changes
    goal: Catalog


class _Draft(NamedTuple):
    """A plan whose losses are not counted yet; of a push with its way."""

    danger: Danger
    losses: tuple[Loss, ...] = ()
    way: _Way | None = None


class Dangerous:
    """reset, rollback, push and pull, each of one database."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground

    async def plan(
        self, folder: Folder, action: Action, target: str = "", *, is_consented: bool = False
    ) -> Danger:
        """What the action would do. What is lost is looked for and counted unless somebody consented to it already.

        Raises Refused where it may not be done in this environment.
        """
        self._require_allowed(folder, action)
        if action == "pull":
            return await self._plan_pull(folder)
        async with self.ground.session(folder) as session:
            draft = await self._draft(folder, session, action, target, is_tried=False)
            if is_consented:
                losses = tuple(each.text for each in draft.losses)
            elif action == "rollback":
                losses = await lost_behind(self.ground, folder, session, target)
            else:
                losses = await counted_losses(session, draft.losses)
            return draft.danger.model_copy(update={"losses": losses})

    async def reset(self, folder: Folder, plan: Danger, *, tell: Event, backup: bool = True) -> Kept | None:
        """Erase everything and migrate from the start."""
        chain = self.ground.chain(folder)
        chain.check(self.ground.engine(folder))
        async with self._consented(folder, plan, "", backup) as (session, _, saved):
            if saved is not None:
                tell(_backup_told(saved))
            await session.erase()
            await chain.up(session)
        return saved

    async def rollback(
        self, folder: Folder, plan: Danger, target: str, *, tell: Event, backup: bool = True
    ) -> tuple[str, ...]:
        """Run the down files of what lies behind the target, newest first, one transaction each."""
        async with self._consented(folder, plan, target, backup) as (session, _, saved):
            if saved is not None:
                tell(_backup_told(saved))
                await self._rehearse_down(folder, saved, target)
            return await self.ground.chain(folder).down(session, target, tell=lambda ran: tell(ran.label))

    async def push(
        self, folder: Folder, plan: Danger, *, tell: Event, accept_data_loss: bool, backup: bool = True
    ) -> tuple[str, ...]:
        """Make the database as schema.sql says, in one transaction; what could not be expressed."""
        self.require_accepted(plan, accept_data_loss=accept_data_loss)
        async with self._consented(folder, plan, "", backup) as (session, draft, saved):
            if saved is not None:
                tell(_backup_told(saved))
            assert draft.way is not None  # noqa: S101 - that of a push
            await session.transaction(statements_of(draft.way.script), None, where="push")
            return differences(own(await session.catalog(), folder), draft.way.goal)

    def require_accepted(self, plan: Danger, *, accept_data_loss: bool) -> None:
        """Raise Refused for a plan that loses data where nobody said that it may."""
        if plan.losses and not accept_data_loss:
            raise Refused(
                f"data would be lost: {'; '.join(plan.losses)}",
                next="Pass --accept-data-loss when that is meant. Nothing has been changed.",
            )

    async def pull(self, folder: Folder, plan: Danger) -> Pulled:
        """Overwrite schema.sql with the database's schema. The database is only read, so what is backed up is the
        file."""
        self._require_same(plan, await self._plan_pull(folder))
        async with self.ground.session(folder) as session:
            without = accounts(await session.catalog(), folder)
        text = await self.ground.places.schema_text(folder, without=without)
        kept = self.ground.folders.keep_schema(folder, _now())
        return Pulled(self.ground.folders.write_schema(folder, text), kept)

    def issue(self, plan: Danger) -> str:
        """A token for exactly this plan; see `redeem`."""
        return tokens.issue(self.ground.folders, plan, _now())

    def redeem(self, token: str, plan: Danger) -> None:
        """Use the token up. Raises PlanStale unless it stands for this plan and is still good."""
        tokens.redeem(self.ground.folders, token, plan, _now())

    @asynccontextmanager
    async def _consented(
        self, folder: Folder, plan: Danger, target: str, backup: bool
    ) -> AsyncIterator[tuple[Session, _Draft, Kept | None]]:
        """The locked session, when the plan is still the same; with a proved backup."""
        async with self.ground.locked(folder) as session:
            draft = await self._draft(folder, session, plan.action, target, is_tried=True)
            self._require_same(plan, draft.danger)
            yield session, draft, await self.ground.places.keep(folder) if backup else None

    async def _draft(
        self, folder: Folder, session: Session, action: Action, target: str, *, is_tried: bool
    ) -> _Draft:
        """`is_tried`: the plan of the same state was made already, and its script tried on a shadow."""
        if action == "push":
            return await self._draft_push(folder, session, is_tried=is_tried)
        chain = self.ground.chain(folder)
        live = own(await session.catalog(), folder)
        standing = await chain.standing(session)
        state: dict[str, Any] = {
            "target": target,
            "migrations": standing.state,
            "catalog": live.flat(),
        }
        if action == "rollback":
            return _Draft(self._danger(folder, action, await chain.way_back(session, target), state))
        whole = ", ".join(folder.settings.schemas) or "the database"
        effects = (
            f"drop everything in {whole} ({counted(len(live.tables), 'table')})",
            f"run {counted(len(standing.applied) + len(standing.pending), 'migration')} from the start",
        )
        losses = tuple(lost_table(name) for name in sorted(live.tables))
        return _Draft(self._danger(folder, action, effects, state), losses)

    async def _draft_push(self, folder: Folder, session: Session, *, is_tried: bool) -> _Draft:
        live, goal = own(await session.catalog(), folder), await self.ground.goal(folder)
        script, left = await self.ground.way(folder, live, goal, is_tried=is_tried)
        state = {"catalog": live.flat(), "goal": goal.flat()}
        effects = tuple(f"{each};" for each in script.statements)
        return _Draft(self._danger(folder, "push", effects, state, left), script.losses, _Way(script, goal))

    async def _plan_pull(self, folder: Folder) -> Danger:
        async with self.ground.session(folder) as session:
            live = own(await session.catalog(), folder)
        before = self.ground.folders.schema(folder)
        lines = 0 if before is None else len(before.splitlines())
        path = f"db/{folder.name}/schema.sql"
        effects: tuple[str, ...] = (f"write {path} from the schema of the database",)
        if before is not None:
            effects = (
                f"overwrite {path} ({counted(lines, 'line')}, with their comments) with the schema of the database",
                f"keep the file that is there below .quaymaster/backups/{folder.name}",
            )
        return self._danger(folder, "pull", effects, {"file": before, "catalog": live.flat()})

    def _danger(
        self,
        folder: Folder,
        action: Action,
        effects: tuple[str, ...],
        state: dict[str, Any],
        left: tuple[str, ...] = (),
    ) -> Danger:
        place = self.ground.place(folder)
        return Danger(
            action=action,
            database=folder.name,
            environment=self.ground.environment,
            place=place,
            effects=effects,
            left=left,
            digest=digest_of(action, folder.name, self.ground.environment, place, state),
        )

    def _require_allowed(self, folder: Folder, action: Action) -> None:
        allowed: Sequence[str] = folder.settings.production.allow
        if self.ground.environment == "production" and action in ("reset", "push") and action not in allowed:
            raise Refused(
                f"{action} is refused in production",
                next=f"Use migrations; or let database.toml of '{folder.name}' say [production] allow = [\"{action}\"].",
            )

    def _require_same(self, plan: Danger, now: Danger) -> None:
        self._require_allowed_plan(plan)
        if plan.digest != now.digest:
            raise PlanStale(
                "files or database have changed since the plan was made", next="Look at a new plan."
            )

    def _require_allowed_plan(self, plan: Danger) -> None:
        if plan.environment != self.ground.environment:
            raise PlanStale("the plan was made for another environment")

    async def _rehearse_down(self, folder: Folder, saved: Kept, target: str) -> None:
        """The down files run on the backup first: one that fails there never meets the database."""
        async with (
            self.ground.places.opened(folder, saved) as scratch,
            self.ground.engines.open(scratch, self.ground.unlimited(folder), make=True) as session,
            session.lock(self.ground.owner, 5),
        ):
            await self.ground.chain(folder).down(session, target)


def _backup_told(saved: Kept) -> str:
    return f"backup {saved.id} ({saved.bytes} bytes), restored and compared"


def _now() -> datetime:
    return datetime.now(UTC)
