"""Toolsets: which tools a client asked to see. Hidden tools cannot be called either."""

from __future__ import annotations

from collections.abc import Iterable

from mcp_server.domain.errors import Invalid
from mcp_server.domain.toolsets import CHOICE, NAMES, TOOLSETS, Toolset


def chosen(names: Iterable[str]) -> frozenset[str]:
    """The toolsets that are meant by these names. Raises Invalid for an unknown one, or for none."""
    wanted = frozenset(name.strip().lower() for name in names if name.strip())
    if not wanted or not wanted <= set(NAMES):
        raise Invalid.field("toolsets", CHOICE)
    return wanted


def shows(wanted: frozenset[str], toolset: Toolset, *, default: bool) -> bool:
    """Whether a tool of this toolset is among the wanted ones."""
    return "all" in wanted or toolset in wanted or (default and "default" in wanted)


def hidden(wanted: frozenset[str]) -> tuple[Toolset, ...]:
    """The toolsets that are not shown as a whole; `default` shows some tools of several."""
    return tuple(toolset for toolset in TOOLSETS if toolset not in wanted and "all" not in wanted)
