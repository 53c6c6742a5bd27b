"""The managed block of a dotenv file: replaced as a whole, everything around it kept byte by byte."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

import anyio.to_thread
from pydantic import SecretStr

from mcp_server.domain.errors import Invalid, Unavailable

BEGIN = "# >>> quaymaster: kept by the server, do not edit between these lines"
END = "# <<< quaymaster"
_BLOCK = re.compile(rb"(?m)^# >>> quaymaster[^\n]*\n(?:.*\n)*?# <<< quaymaster[^\n]*(?:\n|\Z)")
LARGEST = 1024 * 1024


class DotenvBlocks:
    async def put(self, root: str, name: str, variables: dict[str, SecretStr]) -> None:
        try:
            await anyio.to_thread.run_sync(_put, Path(root), name, variables)
        except OSError as error:
            raise Unavailable(f"{name} cannot be written ({type(error).__name__})") from error


def _put(root: Path, name: str, variables: dict[str, SecretStr]) -> None:
    with _alone_in(root):
        path = root / name
        before = _read(path)
        after = with_block(before or b"", variables)
        if after != before and (after or before is not None):
            _replace(path, after)
        elif before is not None and variables:
            path.chmod(0o600)


def with_block(text: bytes, variables: dict[str, SecretStr]) -> bytes:
    """The text with its block replaced where it stands, or added at the end, or taken out."""
    block = _block(variables)
    if _BLOCK.search(text):
        return _BLOCK.sub(lambda _: block, text, count=1)
    if not block:
        return text
    return text + (b"" if not text or text.endswith(b"\n") else b"\n") + block


def _block(variables: dict[str, SecretStr]) -> bytes:
    if not variables:
        return b""
    lines = [f'{name}="{value.get_secret_value()}"' for name, value in sorted(variables.items())]
    return "\n".join([BEGIN, *lines, END, ""]).encode()


def _read(path: Path) -> bytes | None:
    """None when there is no file. Never through a link: what it leads to is not the project's."""
    try:
        found = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Invalid(f"{path.name} is a symbolic link; it is left alone") from error
    with os.fdopen(found, "rb") as file:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise Invalid(f"{path.name} is no ordinary file; it is left alone")
        text = file.read(LARGEST + 1)
    if len(text) > LARGEST or b"\x00" in text:
        raise Invalid(f"{path.name} is not a dotenv file; it is left alone")
    return text


def _replace(path: Path, text: bytes) -> None:
    """Written aside for its owner only, made durable, then put in its place in one step."""
    aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError, PermissionError):
            known = path.stat()
            os.chown(aside, known.st_uid, known.st_gid)
        aside.replace(path)
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


@contextlib.contextmanager
def _alone_in(root: Path) -> Iterator[None]:
    """Two servers that write one file take turns; held for a few milliseconds. Never through a link on the way."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if os.path.realpath(root) != str(root) or not os.path.samestat(os.fstat(folder), os.lstat(root)):
            raise Invalid("the project's path now leads elsewhere; what is there is left alone")
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
