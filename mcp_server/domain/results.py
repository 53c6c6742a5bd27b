"""What use cases return: typed, short, and with what the caller should hear beside the answer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mcp_server.domain.records import Moment, Value


class Result(Value):
    """`notices` are short sentences: the server is degraded, a lease is about to end, ..."""

    notices: tuple[str, ...] = ()


class PlanResult(Result):
    """`status` is planned until the call is repeated with the token, then done."""

    status: Literal["planned", "done"]
    message: str
    effects: tuple[str, ...] = Field(description="What changes and what is lost")
    plan_token: str | None = None
    expires_at: Moment | None = None
