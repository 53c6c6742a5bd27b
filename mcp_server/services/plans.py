"""The gate before a destructive change: first a plan with a token, then exactly that plan.

Enforced here, inside the transaction of the change: the token is used, the state compared and the change made
together or not at all.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from mcp_server.domain import grants
from mcp_server.domain.errors import PlanStale, Unauthenticated
from mcp_server.domain.plans import PLAN_SECONDS, Plan
from mcp_server.domain.records import Moment, Record
from mcp_server.domain.results import PlanResult
from mcp_server.ports.store import Transaction
from mcp_server.services.calls import Call


def draw_token() -> str:
    """A token to pass into `gate`; drawn before the transaction, which may run twice."""
    return secrets.token_urlsafe(24)


async def gate(
    tx: Transaction,
    call: Call,
    token: str,
    *,
    target: Mapping[str, Any],
    holds: Iterable[Record],
    effects: Sequence[str],
) -> PlanResult | None:
    """The plan, when the call came without a token; None when its token stands for exactly this, now used.

    `holds` are the records, already held, whose revisions the plan depends on. Raises PlanStale when the
    token is unknown, used, expired, someone else's, for another target, or when any revision moved; Unauthenticated or
    Forbidden when the caller's key has lost its power since the plan.
    """
    state = {f"{record.noun}/{record.key}": record.rev for record in holds}
    now = await tx.now()
    if call.plan_token is None:
        plan = Plan(
            id=_digest(token),
            team_id=call.caller.team_id,
            caller=call.caller.id,
            action=call.action,
            target=dict(target),
            state=state,
            effects=tuple(effects),
            created_at=now,
            expires_at=now + timedelta(seconds=PLAN_SECONDS),
        )
        await tx.plans.add(plan)
        return PlanResult(
            status="planned",
            message="Nothing has been changed yet. Call again with this plan_token to do exactly this.",
            effects=plan.effects,
            plan_token=token,
            expires_at=plan.expires_at,
        )
    found = await tx.plans.hold(_digest(call.plan_token))
    if found is None or found.caller != call.caller.id or found.team_id != call.caller.team_id:
        raise PlanStale("this caller has no such plan_token")
    if found.used_at is not None:
        raise PlanStale("this plan_token has already been used")
    if found.expires_at <= now:
        raise PlanStale("this plan_token has expired")
    if found.action != call.action or found.target != dict(target):
        raise PlanStale("this plan_token belongs to another call")
    if found.state != state:
        raise PlanStale("the state that the plan was made for has changed since")
    await _require_still(tx, call, now)
    await tx.plans.save(found.change(used_at=now))
    return None


async def _require_still(tx: Transaction, call: Call, now: Moment) -> None:
    """Judge the key as it is now: the caller signed in before this transaction, maybe at a server that has not yet heard
    of a revocation. A key goes only with its team, and then what was planned is gone as well."""
    key = None if call.caller.key_id is None else await tx.keys.get(call.caller.key_id)
    if key is None:
        return
    if not key.good_at(now):
        raise Unauthenticated("the key is no longer valid")
    grants.require(call.caller.change(role=key.role, scopes=key.scopes), call.action)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()[:32]
