"""Backups of Quaymaster itself: its own PostgreSQL and the registry of a home.

Their files say by themselves what they hold: whoever has one of them and the key needs no record to restore it.
"""

from __future__ import annotations

import re
from typing import Literal, get_args
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from mcp_server.domain.backups import SUFFIX, Backup, TableSum
from mcp_server.domain.errors import Corrupt, Invalid
from mcp_server.domain.records import Moment, Value

Own = Literal["control_plane", "registry"]
FILE = re.compile(r"(?P<subject>control_plane|registry)-(?P<id>b-[0-9a-f]{1,60})" + re.escape(SUFFIX))
DATABASE = re.compile(r"[a-z_][a-z0-9_-]{0,62}")


class Contents(Value):
    """The first line of a backup's contents: what comes after it, as it was when it was written."""

    subject: Own
    id: str
    home: str
    created_at: Moment
    server_version: str = ""
    tables: tuple[TableSum, ...]

    def line(self) -> bytes:
        return self.model_dump_json().encode() + b"\n"


def contents_of(line: bytes) -> Contents:
    """Raises Corrupt."""
    try:
        return Contents.model_validate_json(line)
    except ValueError as error:
        raise Corrupt("the backup does not begin with what it holds") from error


def file_name(subject: Own, id: str) -> str:
    return f"{subject}-{id}{SUFFIX}"


def seal_of(name: str) -> tuple[str, ...]:
    """The context under which a file of this name is sealed, as `Backup.context` says it. Raises Invalid."""
    match = FILE.fullmatch(name)
    if match is None:
        raise Invalid.field("file", "a name such as registry-b-0123.qmbackup, as the file was written")
    return ("backup", match["id"], match["subject"], "", "", "")


def is_own(backup: Backup) -> bool:
    return backup.subject in get_args(Own)


def new_database(name: str) -> str:
    """Raises Invalid."""
    if not DATABASE.fullmatch(name):
        raise Invalid.field("name", "1-63 characters of a-z, 0-9, '_' and '-', a letter or '_' first")
    return name


class Address(Value):
    """A PostgreSQL's URL without its password, for an argument list, and the password apart from it."""

    url: str
    password: str | None

    @property
    def socket(self) -> bool:
        """Whether it is reached through a directory of this host."""
        parts = urlsplit(self.url)
        places = [unquote(parts.netloc.rpartition("@")[2]), dict(parse_qsl(parts.query)).get("host", "")]
        return any(place.startswith("/") for place in places) or not any(places)

    def of(self, database: str) -> str:
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{database}"))


def address_of(url: str) -> Address:
    parts = urlsplit(url)
    account, at, place = parts.netloc.rpartition("@")
    user, colon, password = account.partition(":")
    fields = parse_qsl(parts.query, keep_blank_values=True)
    in_query = next((value for name, value in fields if name == "password"), None)
    rest = urlencode([field for field in fields if field[0] != "password"])
    plain = parts._replace(netloc=f"{user}{at}{place}", query=rest)
    return Address(url=urlunsplit(plain), password=unquote(password) if colon else in_query)


def image_of(image: str, major: int) -> str:
    """The same image for another version of the server: `postgres:16-alpine` for 17 is `postgres:17-alpine`."""
    return re.sub(r"(?<=:)\d+(?:\.\d+)*(?=$|-)", str(major), image, count=1)
