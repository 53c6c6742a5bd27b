"""What databases of projects need of the world around: logins, files, the host, and who is still at work."""

from __future__ import annotations

from typing import Protocol

from pydantic import SecretStr

from mcp_server.domain.databases import Login


class Logins(Protocol):
    """PostgreSQL servers of projects, over TCP."""

    async def answers(self, login: Login, *, seconds: float) -> str | None:
        """None when a login ran a query within `seconds`; else why not, without any secret. Never raises."""
        ...

    async def change_password(self, login: Login, verifier: str, *, seconds: float) -> None:
        """Set the role's own password to the one that `verifier` stands for. Raises Unavailable."""
        ...


class SqliteFiles(Protocol):
    """SQLite databases as files. Every method that has a `root` refuses a place that a symbolic link leads out of
    it, and raises Unavailable when the disk refuses."""

    async def create(self, root: str, path: str) -> bool:
        """An empty database, mode 0600, journal in WAL, with the directories on the way; False when there was a
        file already, which is then taken as it is. Invalid when that is no SQLite database."""
        ...

    async def exists(self, root: str, path: str) -> bool:
        """Raises Invalid, as `create` does."""
        ...

    async def check(self, path: str) -> str | None:
        """None when it opens and answers; else why not. Never raises."""
        ...

    async def remove(self, root: str, path: str) -> bool:
        """The file and its journals. None is no error; False, and nothing done, when a link stands on the way."""
        ...


class EnvFiles(Protocol):
    """The block of a project's dotenv file that the server keeps. Other lines are never touched."""

    async def put(self, root: str, name: str, variables: dict[str, SecretStr]) -> None:
        """Set the block of the file `name` in `root`, mode 0600; no variables removes it. Raises Invalid when the
        file or anything on the way to it is a symbolic link, or it is no text, Unavailable when the disk refuses."""
        ...


class Machine(Protocol):
    """The host that this process runs on."""

    def port_is_free(self, port: int) -> bool:
        """Whether 127.0.0.1 can be bound to it now."""
        ...

    def free_memory(self) -> int | None:
        """Bytes that can be used without swapping; None where the system does not say."""
        ...


class Seat(Protocol):
    def leave(self) -> None:
        """Once."""
        ...


class Seats(Protocol):
    """A bounded number of seats for all processes of this home."""

    def take(self, most: int) -> Seat | None:
        """One of `most` that nobody has; None when all are taken. It falls free with its process at the latest."""
        ...


class Workers(Protocol):
    """Processes of this home, by a token that no two have."""

    @property
    def me(self) -> str: ...

    def alive(self, worker: str | None) -> bool:
        """Whether that process still runs, be it frozen; False for None."""
        ...
