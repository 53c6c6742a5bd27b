"""Passwords of databases: drawn, sealed for one place, opened for a login."""

from __future__ import annotations

import secrets

from pydantic import SecretStr

from mcp_server.domain import scram
from mcp_server.domain.database_setup import Verifiers
from mcp_server.domain.databases import (
    DATABASE,
    READER,
    ROLE,
    Access,
    Database,
    DatabaseServer,
    Login,
    Place,
    postgres_url,
    secret_context,
    sqlite_url,
)
from mcp_server.domain.errors import Conflict
from mcp_server.domain.our_workloads import POSTGRES_PORT
from mcp_server.domain.workloads import LOOPBACK
from mcp_server.ports.sealing import Sealer

BYTES = 24


class Passwords:
    """The holder of a secret is the uid of its database, or the id of its server."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def drawn(
        self, holder: str, *, database: str = DATABASE, role: str = ROLE, reader: str = READER
    ) -> Access:
        """Access with two new passwords."""
        return Access(
            database=database,
            role=role,
            reader=reader,
            password=self._seal(secrets.token_urlsafe(BYTES), holder, "role"),
            reader_password=self._seal(secrets.token_urlsafe(BYTES), holder, "reader"),
        )

    def handed_over(self, access: Access, from_holder: str, to_holder: str) -> Access:
        """The same reader under another holder, with a new password for the role."""
        reader = self.open(access.reader_password, from_holder, "reader")
        return access.change(
            password=self._seal(secrets.token_urlsafe(BYTES), to_holder, "role"),
            reader_password=self._seal(reader, to_holder, "reader"),
        )

    def verifiers(self, access: Access, holder: str) -> Verifiers:
        """What a server keeps of both passwords."""
        return Verifiers(
            role=scram.verifier(self.open(access.password, holder, "role"), _salt()),
            reader=scram.verifier(self.open(access.reader_password, holder, "reader"), _salt()),
        )

    def superuser_verifier(self) -> str:
        """For a password that nobody knows: the superuser comes in by the socket."""
        return scram.verifier(secrets.token_urlsafe(BYTES), _salt())

    def login(self, place: Place, access: Access, holder: str, *, reader: bool = False) -> Login:
        """Through the published port, as the role or as the one that may only read."""
        password = access.reader_password if reader else access.password
        return Login(
            host=LOOPBACK,
            port=place.port,
            database=access.database,
            role=access.reader if reader else access.role,
            password=SecretStr(self.open(password, holder, "reader" if reader else "role")),
        )

    def login_of(self, database: Database, *, reader: bool = False) -> Login:
        """Raises Conflict when it is not on PostgreSQL, or not made yet."""
        if database.place is None or database.access is None:
            raise Conflict("this database has no PostgreSQL server")
        return self.login(database.place, database.access, database.uid, reader=reader)

    def login_of_server(self, server: DatabaseServer) -> Login:
        if server.access is None:
            raise Conflict("nobody logs in to this server")
        return self.login(server.place, server.access, server.id)

    def url(self, database: Database, *, masked: str | None = None) -> SecretStr:
        """The address on this host, whole, or with a mask in the place of the password."""
        if database.path is not None:
            return SecretStr(sqlite_url(database.path))
        return self._url(database, LOOPBACK, 0, masked)

    def network_url(self, database: Database) -> SecretStr:
        """The address for workloads on the project's network. Raises Conflict for SQLite."""
        if database.place is None:
            raise Conflict("a SQLite database cannot be reached from a container")
        return self._url(database, database.place.container, POSTGRES_PORT, None)

    def open(self, sealed: str, holder: str, name: str) -> str:
        return self._sealer.open(sealed, secret_context(holder, name)).decode()

    def _url(self, database: Database, host: str, port: int, masked: str | None) -> SecretStr:
        if database.place is None or database.access is None:
            return SecretStr("")
        password = masked or self.open(database.access.password, database.uid, "role")
        return SecretStr(postgres_url(database.access, password, host, port or database.place.port))

    def _seal(self, password: str, holder: str, name: str) -> str:
        return self._sealer.seal(password.encode(), secret_context(holder, name))


def _salt() -> bytes:
    return secrets.token_bytes(scram.SALT_BYTES)
