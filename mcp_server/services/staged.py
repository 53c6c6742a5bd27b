"""Whether the files of a commit are locked by somebody else: the logic behind git and editor hooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mcp_server.domain.locks import canonical_paths
from mcp_server.services.calls import Call
from mcp_server.services.lock_views import CheckResult
from mcp_server.services.locks import Locks

MAX_STAGED = 20_000
TASK_VARIABLE, AGENT_VARIABLE = "QUAYMASTER_TASK", "QUAYMASTER_AGENT"


def committer(
    environment: Mapping[str, str], *, task_id: str | None = None, agent: str | None = None
) -> tuple[str | None, str | None]:
    """The task and agent whose locks are the committer's own: from flags, else QUAYMASTER_TASK and _AGENT.

    One flag hides both variables, so that half of each is never mixed.
    """
    if task_id is not None or agent is not None:
        return task_id, agent
    return environment.get(TASK_VARIABLE) or None, environment.get(AGENT_VARIABLE) or None


class Staged:
    def __init__(self, locks: Locks) -> None:
        self._locks = locks

    async def check(
        self,
        call: Call,
        project: str,
        staged: Sequence[str],
        task_id: str | None = None,
        agent: str | None = None,
    ) -> CheckResult:
        """Which of the staged paths (relative to the project) somebody else has locked; none staged is free.

        Raises Invalid for a path that cannot be checked: it is never taken for free.
        """
        if not staged:
            return CheckResult(free=True)
        paths = canonical_paths(staged, most=MAX_STAGED)
        return await self._locks.check_canonical(call, project, paths, task_id, agent)
