"""The names of toolsets: what a client may ask to see."""

from __future__ import annotations

from typing import Literal, get_args

Toolset = Literal[
    "projects",
    "databases",
    "deployments",
    "environment",
    "domains",
    "schemas",
    "work",
    "teams",
    "audit",
    "system",
]
TOOLSETS: tuple[Toolset, ...] = get_args(Toolset)
NAMES: tuple[str, ...] = (*TOOLSETS, "default", "all")
CHOICE = f"names out of {', '.join(NAMES)}, separated by commas"
