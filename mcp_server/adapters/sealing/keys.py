"""Where the keys come from: QUAYMASTER_SECRET_KEY, else `secret.key` in the home, which the first to seal makes.

The file holds one key a line, 64 hexadecimal digits, the newest first. It is replaced, never rewritten.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from mcp_server.adapters.sealing.aes import KEY, Keys
from mcp_server.domain.errors import Unavailable

FILE = "secret.key"
LOCK = "secret.key.lock"
SETTING = "QUAYMASTER_SECRET_KEY"
MOST = 100
SETTLED_SECONDS = 60
"""No transaction lasts so long: what is stored later was sealed with the keys as they are by then."""


def setting_and_file(setting: bytes | None, home: Path) -> Keys:
    """The setting's key (32 bytes) is the newest; the file's open what was sealed before it was set."""

    def keys(to_seal: bool) -> Sequence[bytes]:
        if setting is None:
            return file_keys(home) if to_seal or (home / FILE).exists() else ()
        if len(setting) != KEY:
            raise Unavailable(
                f"{SETTING} is not a key of {KEY} bytes.", next=f"Set {SETTING} to 32 bytes in base64."
            )
        older = _read(home / FILE) if (home / FILE).exists() else ()
        return (setting, *(key for key in older if key != setting))

    return keys


def file_keys(home: Path) -> Sequence[bytes]:
    """The keys of the file, made when there is none. Two processes at one time end with the same key."""
    path = home / FILE
    if not path.exists():
        with _locked(home):
            if not path.exists():
                _write(home, (secrets.token_bytes(KEY),))
    return _read(path)


def rotate(home: Path) -> Sequence[bytes]:
    """Put a new key before the file's; what older ones sealed still opens. The keys afterwards."""
    file_keys(home)
    with _locked(home):
        _write(home, (secrets.token_bytes(KEY), *_read(home / FILE))[:MOST])
    return _read(home / FILE)


def keep(home: Path, key: bytes) -> None:
    """Among the file's keys from now on, behind the newest: what it sealed opens when the setting is another."""
    file_keys(home)
    with _locked(home):
        kept = _read(home / FILE)
        if key not in kept:
            _write(home, (*kept, key)[:MOST])


def begin_anew(home: Path) -> None:
    """A new key before the usable ones; a file that cannot be used is moved aside, never deleted."""
    path = home / FILE
    try:
        rotate(home)
    except Unavailable:
        with _locked(home):
            path.replace(home / f"{FILE}.lost-{secrets.token_hex(4)}")
        file_keys(home)


def seconds_since_a_change(home: Path) -> float:
    """Of the key file; infinite without one. A clock that was set back counts as no time."""
    try:
        return max(time.time() - (home / FILE).stat().st_mtime, 0.0)
    except FileNotFoundError:
        return math.inf


def forget_older(home: Path, *, by_setting: bool = False) -> int:
    """Keep the newest key only, once everything was sealed anew; how many are forgotten. `by_setting`: a setting
    holds the newest, and no key of the file is needed."""
    path = home / FILE
    with _locked(home):
        if not path.exists():
            return 0
        present = _read(path)
        if by_setting:
            path.unlink()
            _sync(home)
            return len(present)
        _write(home, present[:1])
        return len(present) - 1


def _read(path: Path) -> tuple[bytes, ...]:
    """Never taken for empty, never replaced when it does not parse: what it sealed would be lost."""
    try:
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
        lines = path.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(path) from error
    if not lines or not all(re.fullmatch(r"[0-9a-f]{64}", line) for line in lines):
        raise _unusable(path)
    return tuple(bytes.fromhex(line) for line in lines)


def _unusable(path: Path) -> Unavailable:
    return Unavailable(
        f"The key file {path} cannot be used, and {SETTING} is not set.",
        next=f"Restore the file from a backup, or set {SETTING} to the key that it held.",
    )


def _write(home: Path, keys: Sequence[bytes]) -> None:
    """Written aside for its owner only, made durable, then put in its place in one step."""
    aside = home / f"{FILE}.{os.getpid()}.{secrets.token_hex(4)}"
    text = "".join(f"{key.hex()}\n" for key in keys)
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(home / FILE)
        _sync(home)
    except OSError as error:
        raise Unavailable(f"The key file in {home} cannot be written.", next=f"Set {SETTING}.") from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    """The lock's file is never replaced. It is held for a few milliseconds, so waiting for it is short."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(home / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise Unavailable(f"The key file in {home} cannot be written.", next=f"Set {SETTING}.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
