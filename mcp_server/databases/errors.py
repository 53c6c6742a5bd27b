"""What an application is told about its databases.

DatabasesError
├── DatabasesSetupError    correct the names or URLs; nothing was tried
├── UnknownDatabase        name one of those that were given
├── DatabaseBusy           all connections of the pool stayed in use; not an outage
└── DatabaseUnavailable    try again after `retry_after` seconds
    └── ConnectionLost     the connection broke while the work ran: it may or may not have happened
"""

from __future__ import annotations


class DatabasesError(Exception):
    """Base of all errors of this library. No message holds a URL or a password."""


class DatabasesSetupError(DatabasesError):
    """Names or URLs that cannot be used."""


class UnknownDatabase(DatabasesError, LookupError):
    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"there is no database {name!r}; there are: {', '.join(known) or 'none'}")
        self.name = name


class DatabaseBusy(DatabasesError):
    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(f"no connection of {name!r} became free within {seconds:g} s")
        self.name = name


class DatabaseUnavailable(DatabasesError):
    """`retry_after`: seconds until the next check is made. The cause is the driver's error, where there is one."""

    def __init__(self, name: str, reason: str, retry_after: float) -> None:
        super().__init__(f"database {name!r} is unavailable: {reason}")
        self.name = name
        self.reason = reason
        self.retry_after = retry_after


class ConnectionLost(DatabaseUnavailable):
    """Look whether the work happened before doing it again, unless doing it twice is harmless."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, f"the connection was lost ({reason})", 0.0)
