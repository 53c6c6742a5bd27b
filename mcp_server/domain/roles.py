"""Roles and their order: an owner may do what an admin may, and so on down to the viewer."""

from __future__ import annotations

from typing import Literal, get_args

Role = Literal["owner", "admin", "member", "viewer"]
ROLES: tuple[Role, ...] = get_args(Role)


def at_least(role: Role, needed: Role) -> bool:
    """Whether `role` includes everything that `needed` may do."""
    return ROLES.index(role) <= ROLES.index(needed)
