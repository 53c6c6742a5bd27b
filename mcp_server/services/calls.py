"""The path of every call: rate limit, grant, transaction, idempotency, audit.

A tool makes a `Call` and gives it to `Calls.perform` with its use case; the use case opens transactions by
`write` or `read`. A write's audit row is in its own transaction; every other outcome is recorded in batches.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from mcp_server.domain import grants
from mcp_server.domain.audit import AuditRow
from mcp_server.domain.callers import Caller
from mcp_server.domain.errors import Conflict, Invalid, QuaymasterError, RateLimited
from mcp_server.domain.idempotency import (
    KEEP_SECONDS,
    Remembered,
    arguments_digest,
    derived_id,
    remembered_id,
)
from mcp_server.domain.redaction import redacted, redacted_text
from mcp_server.domain.results import PlanResult, Result
from mcp_server.ports.cache import Cache
from mcp_server.ports.store import Intent, Reading, Store, Transaction
from mcp_server.services.trail import Trail
from mcp_server.services.works import Tell, nobody

R = TypeVar("R", bound=Result)
T = TypeVar("T")


@dataclass(slots=True)
class Call:
    """One call on its way. `params` are the arguments without the token and the idempotency key.

    `tell` passes a line of progress on to the caller.
    """

    caller: Caller
    action: str
    params: Mapping[str, Any] = field(default_factory=dict)
    idempotency_key: str | None = None
    plan_token: str | None = None
    resource: str | None = None
    resource_id: str | None = None
    notices: list[str] = field(default_factory=list)
    tell: Tell = nobody
    started: float = field(default_factory=time.monotonic)
    recorded: bool = False

    def about(self, resource: str, resource_id: str) -> None:
        """Name what the call is about, for the audit log."""
        self.resource, self.resource_id = resource, resource_id

    def new_id(self, kind: str) -> str:
        """The id of what this call makes: derived from the idempotency key where there is one, else drawn."""
        if self.idempotency_key is not None:
            scope = f"{self.caller.id}/{self.idempotency_key}"
            return derived_id(kind, self.caller.team_id, self.action, scope)
        return f"{kind}-{secrets.token_hex(10)}"


class Calls:
    """`rate_limit` is requests a minute and key, where a key sets no other; stdio and the CLI have none."""

    def __init__(self, store: Store, cache: Cache, trail: Trail, *, rate_limit: int) -> None:
        self._store = store
        self._cache = cache
        self._trail = trail
        self._rate_limit = rate_limit

    async def perform(self, call: Call, use_case: Callable[[], Awaitable[R]]) -> R:
        """Run the use case and return its result with the notices of the call.

        Every outcome leaves an audit row.
        """
        try:
            await self.count(call.caller)
            grants.require(call.caller, call.action)
            result = await use_case()
        except QuaymasterError as error:
            self._trail.add(self._row(call, f"{error.code}: {error.message}"), used=call.caller.key_id)
            raise
        except Exception as error:
            self._trail.add(self._row(call, f"INTERNAL: {type(error).__name__}"), used=call.caller.key_id)
            raise
        except BaseException:
            self._trail.add(self._row(call, "CANCELLED: the caller went away, or the server stops"))
            raise
        if not call.recorded:
            self._trail.add(self._row(call, None), used=call.caller.key_id)
        return result.change(notices=(*result.notices, *call.notices)) if call.notices else result

    async def count(self, caller: Caller) -> None:
        """Count a request against the caller's key. `perform` does; what is answered without it asks here.

        Raises RateLimited.
        """
        if caller.transport != "http" or caller.key_id is None:
            return
        limit = caller.rate_limit or self._rate_limit
        used, left = await self._cache.count(f"rate:{caller.key_id}", window=60)
        if used > limit:
            wait = int(left) + 1
            raise RateLimited(
                f"more than {limit} requests in a minute", next=f"Wait {wait} seconds.", retry_after=wait
            )

    async def write(self, call: Call, fn: Callable[[Transaction], Awaitable[R]], kind: type[R]) -> R:
        """Run `fn` in a transaction with its audit row and, with an idempotency key, at most once.

        A repeated call with the same key and arguments returns the first result; with other arguments it is a
        Conflict.
        """
        row_id = _row_id()

        async def transaction(tx: Transaction) -> R:
            if call.idempotency_key is None:
                result = await fn(tx)
            else:
                result = await self._once(tx, call, fn, kind)
            await tx.audit.add(self._row(call, None, row_id=row_id, now=await tx.now()))
            return result

        committed = await self._store.run(transaction, Intent(call.action, call.caller.id))
        call.recorded = True
        call.notices.extend(committed.notices)
        return committed.value

    async def read(self, fn: Callable[[Reading], Awaitable[T]]) -> T:
        """Run `fn` on the committed state."""
        return await self._store.read(fn)

    async def _once(
        self, tx: Transaction, call: Call, fn: Callable[[Transaction], Awaitable[R]], kind: type[R]
    ) -> R:
        now = await tx.now()
        first = _remembered(call, now)
        standing = await tx.idempotency.claim(first)
        if standing is not None and standing.expires_at > now:
            if standing.arguments != first.arguments:
                raise Conflict(
                    "this idempotency_key was used with other arguments",
                    next="Use a new idempotency_key for a different call.",
                )
            if standing.result is not None:
                return _repeated(kind, standing.result)
        mine = standing or await tx.idempotency.hold(first.id)
        result = await fn(tx)
        record = first.change(rev=0 if mine is None else mine.rev)
        if isinstance(result, PlanResult) and result.status == "planned":
            await tx.idempotency.remove(record)
        else:
            await tx.idempotency.save(
                record.change(result=result.model_dump(mode="json", exclude=kind_secrets(kind)))
            )
        return result

    def _row(
        self, call: Call, error: str | None, *, row_id: str | None = None, now: datetime | None = None
    ) -> AuditRow:
        caller = call.caller
        return AuditRow(
            id=row_id or _row_id(),
            timestamp=now or self._trail.now(),
            team_id=caller.team_id,
            key_id=caller.key_id,
            user_id=caller.user[:255],
            role=caller.role,
            action=call.action[:100],
            resource=call.resource,
            resource_id=call.resource_id and call.resource_id[:255],
            params=redacted(call.params),
            success=error is None,
            duration=round((time.monotonic() - call.started) * 1000),
            ip=caller.address and caller.address[:45],
            user_agent=caller.user_agent and redacted_text(caller.user_agent),
            error=error and redacted_text(error),
        )


def kind_secrets(kind: type[Result]) -> set[str]:
    """Fields of a result that are never stored: a repeated call returns them empty."""
    return {
        name for name, info in kind.model_fields.items() if (info.json_schema_extra or {}) == {"secret": True}
    }


def _repeated(kind: type[R], stored: Mapping[str, Any]) -> R:
    result = kind.model_validate(stored)
    if not kind_secrets(kind):
        return result
    note = "This repeats the answer to an earlier call; its secret was shown then and is kept nowhere."
    return result.change(notices=(*result.notices, note))


def _remembered(call: Call, now: datetime) -> Remembered:
    key = call.idempotency_key or ""
    if not 1 <= len(key) <= 200:
        raise Invalid.field("idempotency_key", "1-200 characters")
    return Remembered(
        id=remembered_id(call.caller.team_id, call.caller.id, call.action, key),
        team_id=call.caller.team_id,
        caller=call.caller.id,
        tool=call.action,
        arguments=arguments_digest(dict(call.params)),
        created_at=now,
        expires_at=now + timedelta(seconds=KEEP_SECONDS),
    )


def _row_id() -> str:
    return f"a{time.time_ns() // 1_000_000:013x}{secrets.token_hex(8)}"
