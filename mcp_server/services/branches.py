"""Branches: copies of a database for a task, beside their source, that go by themselves."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from datetime import timedelta
from functools import partial

import anyio

from mcp_server.domain.backups import Branch, branch_key, branch_name
from mcp_server.domain.database_copies import branch_dropped
from mcp_server.domain.databases import MASK, Access, Database, Engine, postgres_url, sqlite_url
from mcp_server.domain.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    QuaymasterError,
    QuotaExceeded,
    WrongHost,
)
from mcp_server.domain.records import Moment, Value
from mcp_server.domain.results import PlanResult, Result
from mcp_server.domain.roles import at_least
from mcp_server.domain.teams import EnvironmentName
from mcp_server.domain.workloads import LOOPBACK
from mcp_server.ports.backups import SqliteCopies
from mcp_server.ports.store import Intent, Reading, Transaction
from mcp_server.services.access import project_of
from mcp_server.services.backups.service import Backups
from mcp_server.services.branch_copies import BranchCopies
from mcp_server.services.calls import Call
from mcp_server.services.databases.files import remove_sqlite
from mcp_server.services.databases.holding import Holding
from mcp_server.services.databases.parts import Parts
from mcp_server.services.plans import draw_token, gate
from mcp_server.services.works import Work

log = logging.getLogger(__name__)
TEND = Intent("tend_databases", "quaymaster")
MOST = 10
MOST_HOURS = 24 * 30
BETWEEN_LOOKS = 60.0


class BranchView(Result):
    """The password in `url` is masked unless it was asked for."""

    project: str
    environment: EnvironmentName | None = None
    name: str
    engine: Engine
    state: str
    address: str = ""
    url: str = ""
    bytes: int = 0
    created_at: Moment
    expires_at: Moment
    next: str | None = None


class BranchItem(Value):
    name: str
    environment: EnvironmentName | None = None
    engine: Engine
    state: str
    bytes: int
    expires_at: Moment


class BranchList(Result):
    items: tuple[BranchItem, ...]


class _Noted(Result):
    key: str
    uid: str


class Branches:
    """`most_bytes`: a larger source is not copied."""

    def __init__(
        self,
        parts: Parts,
        holding: Holding,
        backups: Backups,
        copies: SqliteCopies,
        *,
        most_bytes: int = 2 * 1024**3,
    ) -> None:
        self._parts = parts
        self._holding = holding
        self._copies = BranchCopies(parts, backups.sqlite_file, copies, most_bytes=most_bytes)

    # -- use cases

    async def create(
        self,
        call: Call,
        *,
        project: str,
        name: str,
        environment: EnvironmentName | None = None,
        ttl_hours: float = 24,
        reveal: bool = False,
        wait_seconds: float = 45,
    ) -> BranchView:
        """A copy as of now. The source's sessions are left alone: without any its files are copied, else it is
        dumped and restored. Raises Conflict for a name that is taken, QuotaExceeded, Invalid for what is too large.
        """
        branch_name(name)
        if not 0 < ttl_hours <= MOST_HOURS:
            raise Invalid.field("ttl_hours", f"more than 0, at most {MOST_HOURS}")
        uid = call.new_id("br")[:32]
        access = self._access(uid)

        async def transaction(tx: Transaction) -> _Noted:
            database = await self._holding.held(tx, call, project, environment)
            standing = await tx.branches.hold(branch_key(database.project, database.environment, name))
            if standing is not None and standing.uid == uid:
                return _Noted(key=standing.key, uid=uid)
            if standing is not None:
                raise Conflict(f"there is a branch '{name}' already", next="drop_branch removes it.")
            mine = [
                one
                for one in await tx.branches.of_project(database.project)
                if one.database_uid == database.uid
            ]
            if len(mine) >= MOST:
                raise QuotaExceeded(f"this database has {MOST} branches, the most it may have")
            now = await tx.now()
            branch = await tx.branches.add(self._drafted(database, name, uid, access, now, ttl_hours))
            return _Noted(key=branch.key, uid=uid)

        work = None
        with anyio.CancelScope(shield=True):
            # A caller that goes away between the two would leave it to nobody's work, and this process lives.
            noted = await self._parts.calls.write(call, transaction, _Noted)
            branch = await self._standing(noted)
            if branch.stage == "creating" and branch.worker == self._parts.workers.me:
                work = self._parts.works.begin(f"branch {uid}", partial(self._making, branch=branch))
        ended = work is not None and await work.follow(wait_seconds, call.tell)
        if work is not None and ended and (error := work.failed()) is not None:
            raise error
        return self._view(await self._standing(noted), reveal=reveal)

    async def list(self, call: Call, *, project: str) -> BranchList:
        """The project's branches, by name."""

        async def reading(tx: Reading) -> BranchList:
            owner = await project_of(tx, call.caller, project)
            found = await tx.branches.of_project(owner.name)
            return BranchList(items=tuple(_item(one) for one in found))

        return await self._parts.calls.read(reading)

    async def get(
        self,
        call: Call,
        *,
        project: str,
        name: str,
        environment: EnvironmentName | None = None,
        reveal: bool = False,
    ) -> BranchView:
        if reveal and not at_least(call.caller.role, "member"):
            raise Forbidden("reveal needs the role member", needs="member")
        found = await self._parts.calls.read(
            partial(_found, call=call, project=project, name=name, at=environment)
        )
        return self._view(found, reveal=reveal)

    async def drop(
        self, call: Call, *, project: str, name: str, environment: EnvironmentName | None = None
    ) -> PlanResult:
        """First the plan; with its token the copy is gone."""
        token = draw_token()
        dropped: list[Branch] = []

        async def transaction(tx: Transaction) -> PlanResult:
            dropped.clear()
            found = await _found(tx, call=call, project=project, name=name, at=environment)
            branch = await tx.branches.hold(found.key)
            if branch is None or (branch.worker is not None and self._parts.workers.alive(branch.worker)):
                raise Conflict("somebody is at work on this branch")
            if branch.home != self._parts.site.home:
                raise WrongHost(f"this branch is on {branch.host_name}", host=branch.host_name)
            effects = (f"the branch '{name}' of '{branch.project}' is gone with all that was written to it",)
            planned = await gate(
                tx, call, token, target={"branch": branch.uid}, holds=(branch,), effects=effects
            )
            if planned is not None:
                return planned
            dropped.append(
                await tx.branches.save(branch.change(stage="removing", worker=self._parts.workers.me))
            )
            return PlanResult(status="done", message=f"The branch '{name}' is dropped.", effects=effects)

        with anyio.CancelScope(shield=True):
            # Cut off from here on, it is let go of, and removed by the leader.
            result = await self._parts.calls.write(call, transaction, PlanResult)
        for branch in dropped:
            try:
                await self._remove(branch)
            except BaseException:
                with anyio.move_on_after(self._parts.options.work_seconds, shield=True):
                    await self._parts.works.insist(
                        f"let go of {branch.uid}",
                        partial(self._parts.store.run, partial(self._let_go, branch=branch), TEND),
                    )
                raise
        return result

    # -- for other use cases

    async def drop_of(self, database: Database) -> None:
        """Before a database is deleted: its branches go. On a server of its own they go with that."""
        for branch in await self._parts.store.read(lambda tx: tx.branches.of_project(database.project)):
            if branch.database_uid == database.uid and database.isolation == "container" and branch.place:
                await self._forget(branch)
            elif branch.database_uid == database.uid:
                await self._remove(branch)

    async def drop_copies(self, branches: Sequence[Branch]) -> None:
        """What is left of branches whose records went. Never raises: what cannot be reached went with its server."""
        for branch in branches:
            try:
                if branch.home == self._parts.site.home:
                    await self._remove(branch)
            except QuaymasterError as error:
                log.warning("something of the branch %s may be left: %s", branch.key, error.message)

    # -- for the leader of the home

    async def lead(self) -> None:
        """What has expired goes, and what dead processes half made; never ends."""
        while True:
            try:
                await self.tend()
            except QuaymasterError as error:
                log.info("branches are looked at later: %s", error.message)
            await anyio.sleep(BETWEEN_LOOKS)

    async def tend(self) -> None:
        home = self._parts.site.home
        now = await self._parts.store.read(lambda tx: tx.now())
        for branch in await self._parts.store.read(lambda tx: tx.branches.of_home(home)):
            dead = branch.stage != "ready" and not self._parts.workers.alive(branch.worker)
            if dead or branch.expires_at <= now or not await self._has_source(branch):
                try:
                    await self._remove(branch)
                except QuaymasterError as error:
                    log.info("the branch %s goes later: %s", branch.key, error.message)

    # -- making

    def _access(self, uid: str) -> Access:
        mark = hashlib.sha256(uid.encode()).hexdigest()[:16]
        return self._parts.passwords.drawn(uid, database=f"br_{mark}", role=f"bu_{mark}", reader=f"bv_{mark}")

    def _drafted(
        self, database: Database, name: str, uid: str, access: Access, now: Moment, ttl_hours: float
    ) -> Branch:
        path = None if database.path is None else f"{database.path.rpartition('/')[0]}/branches/{uid}.db"
        return Branch(
            project=database.project,
            environment=database.environment,
            name=name,
            uid=uid,
            database_uid=database.uid,
            project_uid=database.project_uid,
            team_id=database.team_id,
            home=database.home,
            host=database.host,
            host_name=database.host_name,
            engine=database.engine,
            worker=self._parts.workers.me,
            place=database.place,
            access=access if database.place is not None else None,
            path=path,
            created_at=now,
            expires_at=now + timedelta(hours=ttl_hours),
        )

    async def _making(self, work: Work, *, branch: Branch) -> None:
        """Ends with the branch ready, or with nothing of it left."""
        try:
            self._parts.step("branch.noted")
            database = await self._source(branch)
            if branch.path is not None:
                await work.tell("copying the file")
                size, root = await self._copies.of_file(database, branch)
            else:
                size, root = await self._copies.of_postgres(work, database, branch), None
            self._parts.step("branch.copied")

            async def transaction(tx: Transaction) -> None:
                held = await tx.branches.hold(branch.key)
                if held is None or held.uid != branch.uid or held.worker != self._parts.workers.me:
                    raise Conflict("the branch was given up meanwhile")
                await tx.branches.save(held.change(stage="ready", worker=None, bytes=size, root=root))

            await self._parts.store.run(transaction, TEND)
            await work.tell("ready")
        except BaseException:
            with anyio.move_on_after(self._parts.options.work_seconds, shield=True):
                await self._parts.works.insist(f"remove branch {branch.uid}", partial(self._remove, branch))
            raise

    # -- removing

    async def _remove(self, branch: Branch) -> None:
        """The copy first, then the record: what is gone already is no error."""
        if branch.path is not None:
            await remove_sqlite(self._parts.files, self._parts.options.files, branch.path)
        elif branch.place is not None and branch.access is not None and await self._has_source(branch):
            await self._parts.servers.run_sql(branch.place.ref, branch_dropped(branch.access))
        self._parts.step("branch.removed")
        await self._forget(branch)

    async def _let_go(self, tx: Transaction, *, branch: Branch) -> None:
        """What is not ended here is not ours any more."""
        held = await tx.branches.hold(branch.key)
        if held is not None and held.uid == branch.uid and held.worker == self._parts.workers.me:
            await tx.branches.save(held.change(worker=None))

    async def _forget(self, branch: Branch) -> None:
        async def transaction(tx: Transaction) -> None:
            held = await tx.branches.hold(branch.key)
            if held is not None and held.uid == branch.uid:
                await tx.branches.remove(held)

        await self._parts.store.run(transaction, TEND)

    # -- which

    async def _has_source(self, branch: Branch) -> bool:
        databases = await self._parts.store.read(lambda tx: tx.databases.of_project(branch.project))
        return any(one.uid == branch.database_uid and one.engine == branch.engine for one in databases)

    async def _source(self, branch: Branch) -> Database:
        databases = await self._parts.store.read(lambda tx: tx.databases.of_project(branch.project))
        for one in databases:
            if one.uid == branch.database_uid:
                return one
        raise NotFound("the database is gone")

    async def _standing(self, noted: _Noted) -> Branch:
        found = await self._parts.store.read(lambda tx: tx.branches.get(noted.key))
        if found is None or found.uid != noted.uid:
            raise NotFound("the branch is gone")
        return found

    def _view(self, branch: Branch, *, reveal: bool) -> BranchView:
        url, address = "", branch.path or ""
        if branch.path is not None:
            url = sqlite_url(branch.path)
        elif branch.place is not None and branch.access is not None:
            shown = self._parts.passwords.open(branch.access.password, branch.uid, "role") if reveal else MASK
            url = postgres_url(branch.access, shown, LOOPBACK, branch.place.port)
            address = f"{LOOPBACK}:{branch.place.port}/{branch.access.database}"
        return BranchView(
            **_item(branch).model_dump(),
            project=branch.project,
            address=address,
            url=url,
            created_at=branch.created_at,
            next="list_branches tells when it is ready." if branch.stage == "creating" else None,
        )


async def _found(tx: Reading, *, call: Call, project: str, name: str, at: EnvironmentName | None) -> Branch:
    owner = await project_of(tx, call.caller, project)
    found = [one for one in await tx.branches.of_project(owner.name) if one.name == name]
    if at is not None:
        found = [one for one in found if one.environment == at]
    if len(found) > 1:
        raise Conflict("several databases have a branch of this name", next="Pass environment.")
    if not found:
        raise NotFound(f"no branch '{name}' of '{owner.name}'", next="list_branches shows them.")
    call.about("branches", found[0].key)
    return found[0]


def _item(branch: Branch) -> BranchItem:
    return BranchItem(
        name=branch.name,
        environment=branch.environment,
        engine=branch.engine,
        state=branch.stage,
        bytes=branch.bytes,
        expires_at=branch.expires_at,
    )
