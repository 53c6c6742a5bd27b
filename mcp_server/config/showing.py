"""The settings as `quaymaster config` shows them, secrets redacted."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

from pydantic import SecretStr

from mcp_server.config.schema import Settings, as_text, describe

REDACTED = "********"


class Effective(NamedTuple):
    """One row of `quaymaster config`. `value` is redacted and empty when unset."""

    name: str
    value: str
    source: str
    meaning: str


def effective(settings: Settings) -> list[Effective]:
    """All variables in the order of the schema. Source: default, environment, command line, or a file."""
    return [
        Effective(
            variable.name,
            _shown(getattr(settings, variable.field)),
            settings.sources.get(variable.name, "default"),
            variable.meaning,
        )
        for variable in describe()
    ]


def _shown(value: object) -> str:
    """Of a secret URL where it leads stays visible; all else of a secret does not."""
    if not isinstance(value, SecretStr):
        return as_text(value)
    parts = urlsplit(value.get_secret_value())
    if not parts.scheme or not parts.hostname:
        return REDACTED
    return f"{parts.scheme}://{REDACTED}@{parts.netloc.rpartition('@')[2]}{parts.path}"
