"""Live databases whose schema is looked after, and the folders that say how they should be.

Every method raises StatementFailed for a statement that the database refuses, and Unavailable when the database
cannot be reached. No error holds an address or a password.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from mcp_server.domain.schemas.catalogs import Catalog
from mcp_server.domain.schemas.folders import Folder, Migration
from mcp_server.domain.schemas.migrations import Applied
from mcp_server.domain.schemas.revisions import History
from mcp_server.domain.schemas.statements import Engine, Statement
from mcp_server.ports.backups import Sink


class Limits(NamedTuple):
    """In seconds; a `statement_timeout` of 0 is none. `catalog` and `erase` keep to the named schemas of
    PostgreSQL; without names to all."""

    lock_timeout: float = 5.0
    statement_timeout: float = 60.0
    schemas: tuple[str, ...] = ()


class Ledger(NamedTuple):
    """What a transaction writes into the ledger: a row, or the end of one."""

    put: Applied | None = None
    drop: str | None = None


class Rows(NamedTuple):
    """`command` is what the database said when there are no columns. `more` rows were left out."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    command: str
    more: bool = False


class Footprint(NamedTuple):
    """What one transaction did. `locks` are `table: mode`; `touched` are rows by table."""

    locks: tuple[str, ...] = ()
    rewritten: tuple[str, ...] = ()
    touched: Mapping[str, int] = {}


class Witness(NamedTuple):
    """`sql` gives `answer` (a path, where `is_file`) on every connection to the database of a session, and only
    there, while that session holds its lock. `address` leads to this database and may hold a password."""

    address: str
    sql: str
    answer: str
    is_file: bool

    def __repr__(self) -> str:
        return "Witness(...)"


class Session(Protocol):
    """One direct connection, for one task at a time."""

    @property
    def engine(self) -> Engine: ...

    def lock(self, owner: str, wait: float) -> AbstractAsyncContextManager[None]:
        """Be the only runner on this database, and make the ledger where there is none.

        Raises Locked, naming the owner and since when, after `wait` seconds. The lock ends with the process
        that holds it, however that ends. Nothing below that writes checks that it is still held.
        """
        ...

    async def witness(self) -> Witness | None:
        """By which another program can tell that it is in this very database: by the lock of the runner, or by
        one for this alone. None for a file that is not there yet."""
        ...

    async def ledger(self) -> tuple[Applied, ...]:
        """Rows in order of their versions; none where there is no ledger."""
        ...

    async def transaction(
        self, statements: Sequence[Statement], ledger: Ledger | None, *, where: str = "", watch: bool = False
    ) -> Footprint:
        """Run all statements and the change of the ledger in one transaction, or none of them."""
        ...

    async def alone(self, statement: Statement, row: Applied, *, where: str = "") -> None:
        """Run one statement of a migration without transaction; `row.done` counts those before it.

        What may run in a transaction does, together with the ledger's count. Of the others the ledger says
        before that they were begun.
        """
        ...

    async def outcome(self, statement: Statement) -> bool | None:
        """Whether a statement that was begun has taken effect; None where that cannot be told. What is left
        of one that failed (an invalid index) is removed."""
        ...

    async def write(self, ledger: Ledger) -> None:
        """Change the ledger alone."""
        ...

    async def catalog(self) -> Catalog:
        """Everything in the database that is not the engine's, an extension's or the ledger's."""
        ...

    async def count(self, table: str, column: str = "") -> int:
        """Rows of a table, or those with a value in the column, up to one more than losses.MOST; names are a
        catalog's. Raises StatementFailed for a table that is not there."""
        ...

    async def query(self, statement: Statement, *, write: bool, limit: int) -> Rows:
        """Run one statement; without `write` in a read-only transaction."""
        ...

    async def erase(self) -> None:
        """Drop everything that `catalog` shows, and the ledger's rows, in one transaction."""
        ...


class Backup(NamedTuple):
    """A file that was restored elsewhere and compared: `tables` with their rows."""

    path: Path
    bytes: int
    tables: Mapping[str, int]


class Engines(Protocol):
    """The way to live databases, by their addresses. An address is `postgresql://...`, `sqlite:///PATH` or
    `file:PATH`."""

    def engine_of(self, url: str) -> Engine: ...

    def place_of(self, url: str) -> str:
        """Host, port and database, or the file: never a password."""
        ...

    def open(self, url: str, limits: Limits, *, make: bool = False) -> AbstractAsyncContextManager[Session]:
        """A SQLite file that is not there is made only with `make`; else it is looked at as an empty database."""
        ...

    def scratch(self, url: str, shadow_url: str | None) -> AbstractAsyncContextManager[str]:
        """The address of an empty database of the same engine, dropped at the end. `shadow_url` names a
        PostgreSQL role that may create databases, where that of `url` may not."""
        ...

    async def clone(self, url: str, into: str) -> None:
        """Copy schema and data into an empty database, while others go on working."""
        ...

    async def backup(self, url: str, path: Path) -> None:
        """Write a consistent copy to a new file that only its owner reads."""
        ...

    async def restore(self, path: Path, into: str) -> None:
        """Fill an empty database from such a file. Raises Corrupt for a file that is none."""
        ...

    async def dump(self, url: str, snapshot: str, sink: Sink) -> None:
        """Give the sink what pg_dump writes of PostgreSQL as of the snapshot, which stays open meanwhile."""
        ...

    async def load(self, into: str, pieces: AsyncIterator[bytes]) -> None:
        """Fill an empty database of PostgreSQL from that, all of it or nothing. Raises Corrupt for what it is not."""
        ...

    async def fingerprints(self, url: str) -> Mapping[str, tuple[int, str]]:
        """Of each table the number of rows and a digest of them, in any order."""
        ...

    async def schema_text(self, url: str, schemas: Sequence[str] = (), *, without: Sequence[str] = ()) -> str:
        """The schema as SQL that makes it again in an empty database; of PostgreSQL the named ones, or all.
        The tables `without` are left out."""
        ...


class Step(NamedTuple):
    """One revision that was run. `statements` are known where it was watched."""

    version: str
    seconds: float
    footprint: Footprint
    statements: tuple[str, ...] = ()


class Alembic(Protocol):
    """Alembic projects, whose env.py runs as a process of its own, of the project's interpreter.

    Raises ProgramFailed for what env.py or Alembic say, StatementFailed for a statement that the database refuses,
    Refused for an env.py that connects elsewhere, Unavailable where no interpreter has Alembic.
    """

    async def look(self, folder: Folder, witness: Witness | None, *, patient: bool = False) -> History:
        """Changes nothing. Without a witness nothing is applied, and env.py is not run. Somebody who only reads is not
        to wait long for a program that hangs; `patient` is for who is going to run it anyway."""
        ...

    def run(
        self,
        folder: Folder,
        witness: Witness,
        versions: Sequence[str],
        direction: Literal["up", "down"],
        limits: Limits,
        *,
        watch: bool = False,
    ) -> AbstractAsyncContextManager[AsyncIterator[Step]]:
        """Run revisions in the given order, each on a connection of its own; the session of the witness is
        locked. The process ends when the context does, and when its starter dies."""
        ...


class Folders(Protocol):
    """The databases below one root."""

    @property
    def root(self) -> Path: ...

    @property
    def reads_environment(self) -> bool:
        """Whether addresses are looked for in the process environment, too, and not in dotenv files alone."""
        ...

    def all(self) -> tuple[Folder, ...]:
        """By name. Raises Invalid for collisions and for settings that do not parse."""
        ...

    def migrations(self, folder: Folder) -> tuple[Migration, ...]:
        """In order. Raises Invalid, with the file's name, for what is not UTF-8 or holds NUL, for a folder
        that is not named VERSION_NAME, and for one without up.sql."""
        ...

    def schema(self, folder: Folder) -> str | None: ...

    def seed(self, folder: Folder) -> Path | None: ...

    def read(self, path: Path) -> str: ...

    def make(self, name: str, engine: Engine) -> Folder:
        """A new folder with an empty schema.sql. Raises Conflict where there is one, Invalid for its name or a
        variable that another database uses."""
        ...

    def write_schema(self, folder: Folder, text: str) -> Path: ...

    def keep_schema(self, folder: Folder, at: datetime) -> Path | None:
        """A copy of schema.sql below `state`, read again and compared; None where there is no such file. Raises
        Corrupt for a copy that is not the same."""
        ...

    def write_migration(self, folder: Folder, version: str, name: str, up: str, down: str) -> Path: ...

    def state(self, *parts: str) -> Path:
        """A path below the folder for backups and plans, which is made, private and ignored by git."""
        ...

    def url(self, folder: Folder, environment: str, purpose: str = "") -> str | None:
        """From the environment, `.env.dev` or `.env.prod`, then `.env`. `purpose` DIRECT or SHADOW asks for
        RDS_NAME_DIRECT_URL or RDS_NAME_SHADOW_URL."""
        ...
