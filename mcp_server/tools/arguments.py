"""Arguments that many tools share: each type carries its rule and, where the name does not say it, a
description."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mcp_server.domain.locks import MAX_LEASE, MAX_PATHS, MIN_LEASE
from mcp_server.domain.pages import MAX_LIMIT
from mcp_server.domain.teams import EnvironmentName

ProjectName = Annotated[str, Field(min_length=1, max_length=200)]
TaskId = Annotated[str, Field(min_length=1, max_length=40)]
Agent = Annotated[str, Field(min_length=1, max_length=200, description="Your name, if you pass no task_id")]
Path = Annotated[str, Field(min_length=1, max_length=1000)]
Paths = Annotated[list[Path], Field(min_length=1, max_length=MAX_PATHS)]
Lease = Annotated[int, Field(ge=MIN_LEASE, le=MAX_LEASE)]
Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT)]
Environment = EnvironmentName
Wait = Annotated[float, Field(ge=0, le=600)]
Cursor = Annotated[str, Field(max_length=2000)]
