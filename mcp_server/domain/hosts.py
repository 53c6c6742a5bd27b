"""Host names: what is one, which ones a project owns, and which projects would share one.

Production answers at `{project}.{base}`, other environments at `{project}-{environment}.{base}`, and a slot
before it is promoted at `{project}-{environment}-{slot}.{base}`. Everything here is lower-case ASCII; nothing
else ever becomes a file name or a line of a proxy's configuration.
"""

from __future__ import annotations

import re
from typing import get_args

from mcp_server.domain.errors import Invalid
from mcp_server.domain.slots import SlotName
from mcp_server.domain.teams import EnvironmentName

MAX_LABEL = 63
MAX_NAME = 253
LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")

_ENVIRONMENTS: tuple[EnvironmentName, ...] = get_args(EnvironmentName)
_SLOTS: tuple[SlotName, ...] = get_args(SlotName)
_SUFFIXES = (
    "",
    *(f"-{environment}" for environment in _ENVIRONMENTS if environment != "production"),
    *(f"-{environment}-{slot}" for environment in _ENVIRONMENTS for slot in _SLOTS),
)


def is_host(text: str) -> bool:
    """Whether the text is, as it stands, a host name of two or more labels in the spelling that an edge
    takes.
    """
    labels = text.split(".")
    return len(text) <= MAX_NAME and len(labels) > 1 and all(LABEL.fullmatch(label) for label in labels)


def public_host(text: str) -> str:
    """A domain name in the one spelling: lower case, without a dot at the end.

    Raises Invalid for what is no public name: one label, an address, a wildcard, other letters than ASCII ones
    (those are written as xn--...).
    """
    host = text.strip().removesuffix(".").lower()
    if not text.isascii() or not is_host(host):
        raise Invalid.field(
            "domain", "a full domain name of a-z, 0-9, '-' and '.', each part at most 63 characters"
        )
    if host.rpartition(".")[2].isdigit():
        raise Invalid.field("domain", "a domain name, not an address")
    return host


def custom_host(text: str, base: str) -> str:
    """A person's own domain as `public_host` spells it.

    Raises Invalid also for a name of the base domain, which belongs to projects.
    """
    host = public_host(text)
    if lies_in(host, base):
        raise Invalid.field("domain", f"names of {base} belong to projects; bring a domain of your own")
    return host


def lies_in(host: str, zone: str) -> bool:
    """Whether the host is the zone or one of its names; `app-admin.x` does not lie in `admin.x`."""
    return host == zone or host.endswith("." + zone)


def environment_host(project: str, environment: EnvironmentName, base: str) -> str:
    """Where the active slot answers. Raises Invalid when the name would be too long for DNS."""
    return _named(project, "" if environment == "production" else f"-{environment}", base)


def preview_host(project: str, environment: EnvironmentName, slot: SlotName, base: str) -> str:
    """Where one slot answers, active or not. Raises Invalid when the name would be too long for DNS."""
    return _named(project, f"-{environment}-{slot}", base)


def project_hosts(project: str, base: str) -> frozenset[str]:
    """Every name of the base domain that belongs to this project, used or not, as far as DNS takes it."""
    names = (f"{project}{suffix}.{base}" for suffix in _SUFFIXES)
    return frozenset(name for name in names if is_host(name))


def rivals(project: str) -> frozenset[str]:
    """The names of the projects that would share a host name with this one, and so may not exist beside it.

    `app-staging` and `app` are rivals: production of one and staging of the other would have one name.
    """
    shared = {
        (project + mine).removesuffix(theirs)
        for mine in _SUFFIXES
        for theirs in _SUFFIXES
        if (project + mine).endswith(theirs)
    }
    return frozenset(name for name in shared if name != project and name.strip("-") == name != "")


def owners(host: str, base: str) -> frozenset[str]:
    """The names of projects that would own this host, used or not; none for what is no such name of the base."""
    label, _, zone = host.partition(".")
    if zone != base:
        return frozenset()
    names = {label.removesuffix(suffix) for suffix in _SUFFIXES if label.endswith(suffix)}
    return frozenset(name for name in names if name.strip("-") == name != "")


def _named(project: str, suffix: str, base: str) -> str:
    host = f"{project}{suffix}.{base}"
    if not is_host(host):
        raise Invalid.field(
            "project",
            f"its host name needs at most {MAX_LABEL - len(suffix)} characters before '{suffix}.{base}'",
        )
    return host
