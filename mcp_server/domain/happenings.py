"""What a team is told about: a version was deployed, promoted or rolled back, or that failed."""

from __future__ import annotations

from typing import Any, Literal

from mcp_server.domain.records import Value
from mcp_server.domain.redaction import redacted_text
from mcp_server.domain.teams import EnvironmentName

Channel = Literal["slack", "discord"]
What = Literal["deployed", "promoted", "rolled back", "failed"]
_MARKS: dict[What, str] = {"deployed": "📦", "promoted": "✅", "rolled back": "↩️", "failed": "❌"}


class Happening(Value):
    """`action` names what failed; `detail` is a reason or the error's sentence; `url` where the version answers."""

    what: What
    project: str
    environment: EnvironmentName
    action: str = "deploy"
    version: str | None = None
    by: str | None = None
    detail: str | None = None
    url: str | None = None


def sentence(event: Happening) -> str:
    """One line of plain text, without secrets, at most about 1000 characters."""
    what = f"{event.action} failed" if event.what == "failed" else event.what
    version = f" {event.version}" if event.version else ""
    by = f" by {event.by}" if event.by else ""
    parts = [f"{_MARKS[event.what]} {event.project} ({event.environment}):{version} {what}{by}"]
    if event.detail:
        parts.append(event.detail)
    if event.url:
        parts.append(event.url)
    return " - ".join(redacted_text(" ".join(part.split())) for part in parts)


def message(channel: Channel, event: Happening) -> dict[str, Any]:
    """The body that the channel's webhook takes. Nothing in it calls anybody by name or makes a link look like another."""
    text = sentence(event)
    if channel == "slack":
        for letter, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
            text = text.replace(letter, entity)
        return {"text": text, "unfurl_links": False}
    return {"content": text[:2000], "allowed_mentions": {"parse": []}}
