"""Which process is the master of an nginx with a certain configuration.

A pid file outlives an nginx that was killed, and its number may be anybody's by now; `nginx -s reload` signals it
all the same.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import close, pidfd_open
from pathlib import Path
from typing import NamedTuple

TITLE = "nginx: master process "
WORD = re.compile(r""""(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\#[^\n]*|[{};]|[^\s{};]+""")


class Stranger(Exception):
    """The pid file does not lead to this nginx; the text says to what."""


class Built(NamedTuple):
    """Where an nginx looks when it is not told, by what `nginx -V` says."""

    prefix: Path
    configuration: Path
    pid: Path


def built(version: str) -> Built:
    told = dict(re.findall(r"--(prefix|conf-path|pid-path)=(\S+)", version))
    prefix = Path(told.get("prefix", "/usr/local/nginx"))
    return Built(
        prefix,
        prefix / told.get("conf-path", "conf/nginx.conf"),
        prefix / told.get("pid-path", "logs/nginx.pid"),
    )


def pid_file(dump: str, command: Sequence[str], defaults: Built) -> Path:
    """By the configuration as `nginx -T` prints it."""
    named = next((words[1] for words in _directives(dump) if words[0] == "pid" and len(words) == 2), None)
    return defaults.pid if named is None else _prefix(" ".join(command), defaults) / named.strip("\"'")


def reload(file: Path, command: Sequence[str], defaults: Built) -> None:
    """Raises Stranger, and PermissionError when the process is this nginx and may not be signalled."""
    with _held(file) as (pid, held):
        title = _title(pid)
        if not title.startswith(TITLE) or _configuration(title, defaults) != _configuration(
            " ".join(command), defaults
        ):
            raise Stranger(f"{file} names process {pid}, which is another program")
        signal.pidfd_send_signal(held, signal.SIGHUP)


@contextmanager
def _held(file: Path) -> Iterator[tuple[int, int]]:
    """The number in the file, and a hold on the process that has it now: no other one can be meant by that."""
    try:
        pid = int(file.read_text().strip())
        held = pidfd_open(pid)
    except (OSError, ValueError, OverflowError) as error:
        raise Stranger(f"{file} names no process") from error
    try:
        yield pid, held
    finally:
        close(held)


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0].decode(errors="replace")
    except OSError:
        return ""


def _configuration(words: str, defaults: Built) -> Path:
    named = _option(words, "-c")
    return defaults.configuration if named is None else _prefix(words, defaults) / named


def _prefix(words: str, defaults: Built) -> Path:
    named = _option(words, "-p")
    return defaults.prefix if named is None else Path(named)


def _option(words: str, name: str) -> str | None:
    """`-c FILE` or `-cFILE` among the words of a command; the last one counts, as with nginx."""
    found = re.findall(rf"(?:^|\s){name}\s*(\S+)", words)
    return found[-1] if found else None


def _directives(text: str) -> Iterator[list[str]]:
    """Those outside of any block."""
    depth, words = 0, list[str]()
    for word in WORD.findall(text):
        if word.startswith("#"):
            continue
        if word in "{};":
            if word == ";" and depth == 0 and words:
                yield words
            depth += {"{": 1, "}": -1, ";": 0}[word]
            words = []
        else:
            words.append(word)
