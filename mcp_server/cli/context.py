"""What a command is given: the settings, the composition root, and the two streams it writes to."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

if TYPE_CHECKING:
    from mcp_server.config import Settings
    from mcp_server.domain.backups import Backup
    from mcp_server.domain.callers import Caller
    from mcp_server.domain.installation_backups import Contents, Own
    from mcp_server.domain.queries import Target
    from mcp_server.services.bootstrap import Bootstrap
    from mcp_server.services.calls import Call, Calls
    from mcp_server.services.conflicts import Conflicts
    from mcp_server.services.databases.service import Databases as ProjectDatabases
    from mcp_server.services.generate import Generate
    from mcp_server.services.keys import Keys
    from mcp_server.services.schemas.databases import Databases
    from mcp_server.services.signin import SignIn
    from mcp_server.services.staged import Staged
    from mcp_server.services.status import Status

OK, FAILED, USAGE, REFUSED = 0, 1, 2, 4
"""Exit codes of every command."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class BadSettings(Exception):
    """The settings cannot be used; a line for each problem. Known without what reads settings, as most failures are."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Cases(Protocol):
    """The use cases that commands need."""

    @property
    def calls(self) -> Calls: ...
    @property
    def bootstrap(self) -> Bootstrap: ...
    @property
    def keys(self) -> Keys: ...
    @property
    def staged(self) -> Staged: ...
    @property
    def conflicts(self) -> Conflicts: ...
    @property
    def status(self) -> Status: ...
    @property
    def databases(self) -> ProjectDatabases: ...
    @property
    def sign_in(self) -> SignIn: ...


class Damage(Protocol):
    @property
    def file(self) -> str: ...
    @property
    def line(self) -> int: ...
    @property
    def what(self) -> str: ...


class RegistryReport(Protocol):
    """What a look at every byte of a home found."""

    @property
    def root(self) -> str: ...
    @property
    def home(self) -> str | None: ...
    @property
    def seq(self) -> int | None: ...
    @property
    def records(self) -> Mapping[str, int]: ...
    @property
    def pending(self) -> int: ...
    @property
    def audit_rows(self) -> int: ...
    @property
    def damages(self) -> Sequence[Damage]: ...
    @property
    def remarks(self) -> Sequence[str]: ...
    @property
    def sound(self) -> bool: ...


class Claim(Protocol):
    """Which homes share a PostgreSQL. `holder` may grant alone; it admits who asks. `copied`: this one is no home."""

    @property
    def holder(self) -> str | None: ...
    @property
    def homes(self) -> Sequence[str]: ...
    @property
    def copied(self) -> bool: ...


class Root(Protocol):
    """The composition root, as commands see it."""

    def open_app(self, settings: Settings, /) -> AbstractAsyncContextManager[Cases]: ...

    def local_user(self) -> str: ...

    async def serve_stdio(self, settings: Settings, toolsets: Sequence[str] = ..., /) -> None: ...

    async def serve_http(
        self, settings: Settings, /, *, host: str, port: int, toolsets: Sequence[str], allow_remote: bool
    ) -> None: ...

    async def migrations(self, settings: Settings, /, *, up: bool) -> list[tuple[str, str]]: ...

    def registry_report(self, settings: Settings, /) -> RegistryReport: ...

    async def registry_set_aside(self, settings: Settings, /) -> Sequence[str]: ...

    async def registry_compact(self, settings: Settings, /) -> None: ...

    def registry_export(self, settings: Settings, /) -> dict[str, Any]: ...

    async def registry_import(self, settings: Settings, /) -> dict[str, int]: ...

    def code_databases(
        self,
        root: Path,
        environ: Mapping[str, str],
        environment: str,
        find_settings: Callable[[], Settings],
        /,
    ) -> Databases: ...

    def client_writer(self) -> Generate: ...

    async def serve_studio(
        self,
        name: str,
        url: str,
        reader: Target,
        /,
        *,
        schemas: tuple[str, ...],
        port: int,
        writable: bool,
        ready: Callable[[str], None],
    ) -> None: ...

    async def edge_config(self, settings: Settings, version: str | None = None, /) -> str: ...

    async def edge_check(self, settings: Settings, /) -> Sequence[str]: ...

    async def backup_create(self, settings: Settings, subjects: Sequence[Own], /) -> Sequence[Backup]: ...

    async def backup_list(self, settings: Settings, /) -> tuple[Sequence[Backup], Sequence[str]]: ...

    async def backup_verify(self, settings: Settings, backup: str, /) -> str: ...

    async def backup_restore(
        self, settings: Settings, backup: str, /, *, home: Path | None, database: str | None
    ) -> Contents: ...

    def secrets_rotate(self, settings: Settings, /) -> str | None: ...

    async def secrets_reseal(self, settings: Settings, /) -> tuple[int, Sequence[str]]: ...

    async def secrets_forget(self, settings: Settings, /) -> int: ...

    async def secrets_reset(self, settings: Settings, /) -> Sequence[str]: ...

    async def registry_claim(self, settings: Settings, /, *, force: bool) -> Claim: ...

    def version(self) -> str: ...


@dataclass
class Context:
    """`environ` and `cwd` are where settings come from."""

    find_root: Callable[[], Root]
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    cwd: Path = field(default_factory=Path.cwd)
    out: TextIO = field(default_factory=lambda: sys.stdout)
    err: TextIO = field(default_factory=lambda: sys.stderr)

    @cached_property
    def settings(self) -> Settings:
        """Raises BadSettings with every problem."""
        from mcp_server import config, logs

        try:
            settings = config.load(self.environ, self.cwd)
        except config.SettingsError as error:
            raise BadSettings(tuple(str(each) for each in error.problems)) from error
        logs.configure(level=settings.log_level, form=settings.log_format, stream=self.err)
        for warning in settings.warnings:
            self.tell(f"warning: {warning}")
        return settings

    @cached_property
    def root(self) -> Root:
        return self.find_root()

    def operator(self) -> Caller:
        """The person at the command line, who can read the home: owner of the team `local`."""
        from mcp_server.services.signin import local_owner

        return local_owner(self.root.local_user(), transport="cli")

    def call(self, action: str, **params: Any) -> Call:
        from mcp_server.services.calls import Call

        return Call(caller=self.operator(), action=action, params=params)

    def print(self, text: str) -> None:
        """One line of the command's answer, on stdout."""
        self.out.write(f"{_shown(text)}\n")

    def print_json(self, value: Any) -> None:
        self.print(json.dumps(value, indent=2, ensure_ascii=False, default=str))

    def tell(self, text: str) -> None:
        """One line for the person, on stderr."""
        self.err.write(f"{_shown(text)}\n")


class Painted(str):
    """Text with colours of our own, in which what others wrote is harmless already."""

    __slots__ = ()


def _shown(text: str) -> str:
    return text if isinstance(text, Painted) else harmless(text)


def harmless(text: str, allowed: str = "\n\t") -> str:
    """What others wrote (names, titles) moves no cursor and sets no colour of a terminal; in JSON it stays the same text."""
    return _CONTROL.sub(lambda found: found[0] if found[0] in allowed else f"\\u{ord(found[0]):04x}", text)


def table(rows: Sequence[Sequence[str]], heading: Sequence[str]) -> list[str]:
    """Lines with columns as wide as they must be."""
    lines = [heading, *([harmless(cell, allowed="") for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heading))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
