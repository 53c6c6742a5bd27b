"""Plan tokens of the command line: a file for each, read once."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from datetime import datetime, timedelta

from mcp_server.domain.errors import PlanStale
from mcp_server.domain.schemas.danger import TOKEN_SECONDS, Danger
from mcp_server.ports.schemas import Folders


def issue(folders: Folders, plan: Danger, now: datetime) -> str:
    """A token for exactly this plan, good once and for 15 minutes."""
    token = secrets.token_hex(18)  # it is typed behind an option, and so may not begin with a hyphen
    path = folders.state("plans", _name(token))
    expires = (now + timedelta(seconds=TOKEN_SECONDS)).isoformat()
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
        json.dump({"digest": plan.digest, "expires": expires}, file)
    return token


def redeem(folders: Folders, token: str, plan: Danger, now: datetime) -> None:
    """Use the token up. Raises PlanStale unless it was issued for this very plan and is still good."""
    path = folders.state("plans", _name(token))
    used = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.rename(used)
    except FileNotFoundError:
        raise PlanStale("this token is not known, or was used", next="Run it with --plan again.") from None
    kept = json.loads(used.read_text(encoding="utf-8"))
    used.unlink()
    if datetime.fromisoformat(kept["expires"]) <= now:
        raise PlanStale("this token has expired", next="Run it with --plan again.")
    if kept["digest"] != plan.digest:
        raise PlanStale(
            "this token stands for another plan: files or database have changed since",
            next="Run it with --plan again, and read the plan.",
        )


def _name(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()[:32]
