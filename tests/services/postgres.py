"""A real PostgreSQL server that a test may kill, freeze, empty and set back.

Everything here is synchronous and returns when it is done; from a coroutine that must go on meanwhile call
it through `asyncio.to_thread`. All waits are bounded and end in TimeoutError.
"""

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncpg
import psutil

from .loops import run_apart
from .ports import ReservedPort, is_open
from .programs import Account, PostgresMissing, bare_environment, find_programs, unprivileged_account
from .waiting import wait_until

__all__ = ["PostgresMissing", "PostgresServer", "end_left_overs"]

# PostgreSQL's processes are killed in tests, the machine is not: what they wrote is in the kernel's hands.
SERVER_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "listen_addresses": "127.0.0.1",
    "log_min_messages": "warning",
    "max_connections": "200",
    "shared_buffers": "32MB",
}
ADMIN = "postgres"
ROLE = "quaymaster"
PASSWORD = "quaymaster-test-only"
DATABASE = "quaymaster"


class PostgresServer:
    """One server with its own data, on a port of 127.0.0.1 that stays the same until `close`.

    It holds a role (no superuser) that owns an empty database; `url` names both. Passwords are asked for.
    A crash must not lose what was committed: `kill` and `start` are the way to see it.
    """

    def __init__(self, template: Path | None = None) -> None:
        """Finds the programs; PostgresMissing when there are none. Nothing runs before `start`.

        `template`: a snapshot of another such server to begin with, which is quicker than a new cluster.
        """
        self._template = template
        self._base = Path(tempfile.mkdtemp(prefix=f"qm-pg-{os.getpid()}-", dir="/tmp"))
        self._base.chmod(0o755)
        atexit.register(self.close)
        try:
            self._account = unprivileged_account()
            self._programs = find_programs(self._account, self._base)
        except PostgresMissing:
            self.close()
            raise
        self._sockets = self._new_folder("sockets")
        self._port = ReservedPort()
        self._process: subprocess.Popen[bytes] | None = None
        self._snapshots = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def port(self) -> int:
        return self._port.number

    @property
    def pid(self) -> int:
        """The postmaster's process id. RuntimeError while the server is down."""
        if self._process is None:
            raise RuntimeError("this PostgreSQL server is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def url(self) -> str:
        return self.url_of(DATABASE)

    @property
    def admin_url(self) -> str:
        """The same database as the superuser."""
        return self.url_of(DATABASE, role=ADMIN)

    def url_of(self, database: str, *, role: str = ROLE, port: int | None = None) -> str:
        """`port` is for the port of a proxy in front of the server."""
        return f"postgresql://{role}:{PASSWORD}@127.0.0.1:{port or self.port}/{database}"

    # -- life ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Runs the server on its data (made at the first start) and returns when a login works."""
        if self.running:
            return
        if self._data.exists():
            self._launch()
        elif self._template is not None:
            self._copy(self._template, self._data)
            self._launch()
        else:
            self._initialise()
            self._launch()
            self._provision()

    def stop(self) -> None:
        """The orderly shutdown; running statements are cut off. A frozen server is thawed first."""
        if self._process is None:
            return
        self.thaw()
        self._process.send_signal(signal.SIGINT)
        self._wait_until_gone([])

    def kill(self) -> None:
        """SIGKILL to every process of the server; they are gone and the port is closed on return."""
        if self._process is None:
            return
        family = self._freeze_family()
        for member in family:
            _signal(member, signal.SIGKILL)
        self._wait_until_gone(family)

    def freeze(self) -> None:
        """SIGSTOP to all: connections stay open, new ones are accepted by the kernel, nothing answers."""
        self._freeze_family()

    def thaw(self) -> None:
        for member in self._family():
            _signal(member, signal.SIGCONT)

    def close(self) -> None:
        """Ends the server and removes its data. May be called twice."""
        atexit.unregister(self.close)
        if getattr(self, "_process", None) is not None:
            self.kill()
        if port := getattr(self, "_port", None):
            port.release()
        shutil.rmtree(self._base, ignore_errors=True)

    # -- faults in the data ------------------------------------------------------------------------------

    def cut_connections(self, database: str | None = None) -> int:
        """Ends all client connections (SQLSTATE 57P01), or those of one database; how many there were."""
        cut: int = self.run_as_admin(
            """
            SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
              AND ($1::text IS NULL OR datname = $1)
            """,
            database,
        )
        return cut

    def wipe(self) -> None:
        """The server comes back with a new, empty volume on the same port (up if it was up)."""
        with _PausedServer(self):
            shutil.rmtree(self._data)
            self._initialise()
            self._launch()
            self._provision()
            self.stop()

    def snapshot(self) -> Path:
        """A backup of all data as of now, for `restore_snapshot`. The server is down meanwhile."""
        self._snapshots += 1
        copy = self._base / f"snapshot-{self._snapshots}"
        with _PausedServer(self):
            self._copy(self._data, copy)
        return copy

    def restore_snapshot(self, snapshot: Path) -> None:
        """The data as they were when the snapshot was taken; later commits are gone."""
        with _PausedServer(self):
            shutil.rmtree(self._data)
            self._copy(snapshot, self._data)

    # -- databases -------------------------------------------------------------------------------------

    def create_database(self, name: str) -> str:
        """An empty database that belongs to the role; its URL. The name must be a plain identifier."""
        self.run_as_admin(f"CREATE DATABASE {_plain(name)} OWNER {ROLE} TEMPLATE template1")
        return self.url_of(name)

    def drop_database(self, name: str) -> None:
        """Also when connections are open. No error when it is gone already."""
        self.run_as_admin(f"DROP DATABASE IF EXISTS {_plain(name)} WITH (FORCE)")

    def run_as_admin(self, sql: str, *arguments: object, database: str = "postgres") -> Any:
        """The first value of the first row of one statement run as the superuser."""

        async def run() -> Any:
            connection = await asyncpg.connect(self.url_of(database, role=ADMIN), timeout=10)
            try:
                return await connection.fetchval(sql, *arguments, timeout=30)
            finally:
                await connection.close(timeout=5)

        return run_apart(run())

    def log(self) -> str:
        """What the server wrote to its log so far, for the message of a failed test."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    # -- steps -------------------------------------------------------------------------------------------

    @property
    def _data(self) -> Path:
        return self._base / "data"

    @property
    def _log(self) -> Path:
        return self._base / "log"

    def _new_folder(self, name: str) -> Path:
        folder = self._base / name
        folder.mkdir(mode=0o700)
        self._account.own(folder)
        return folder

    def _initialise(self) -> None:
        self._new_folder("data")
        secret = self._base / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o600)
        self._account.own(secret)
        self._account.run(
            self._programs / "initdb",
            *("--pgdata", self._data, "--username", ADMIN, "--pwfile", secret, "--no-sync"),
            *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--wal-segsize=1"),
        )

    def _provision(self) -> None:
        self.run_as_admin(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")
        self.create_database(DATABASE)

    def _launch(self) -> None:
        settings = {
            **SERVER_SETTINGS,
            "port": str(self.port),
            "unix_socket_directories": str(self._sockets),
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, *options],
                **_as(self._account),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=bare_environment(),
                start_new_session=True,
            )
        try:
            wait_until(self._answers, seconds=30, what=f"PostgreSQL on port {self.port} to answer a login")
        except BaseException:
            self.kill()
            raise

    def _answers(self) -> bool:
        if not self.running:
            self._process = None
            raise RuntimeError(f"PostgreSQL ended while it started:\n{self.log()}")
        if not is_open(self.port):
            return False
        try:
            return bool(self.run_as_admin("SELECT true"))
        except (asyncpg.CannotConnectNowError, OSError, TimeoutError):
            return False

    def _family(self) -> list[psutil.Process]:
        """The postmaster first, then its children: PostgreSQL gives each child a session of its own."""
        if self._process is None:
            return []
        try:
            postmaster = psutil.Process(self._process.pid)
            return [postmaster, *postmaster.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _freeze_family(self) -> list[psutil.Process]:
        """Stops the postmaster first: from then on the list of its children is complete."""
        for postmaster in self._family()[:1]:
            _signal(postmaster, signal.SIGSTOP)
        family = self._family()
        for member in family:
            _signal(member, signal.SIGSTOP)
        return family

    def _wait_until_gone(self, family: list[psutil.Process]) -> None:
        if self._process is not None:
            self._process.wait(timeout=30)
            self._process = None
        wait_until(lambda: all(map(_has_ended, family)), seconds=30, what="PostgreSQL's processes to end")
        wait_until(lambda: not is_open(self.port), seconds=10, what=f"port {self.port} to close")

    def _copy(self, source: Path, target: Path) -> None:
        shutil.copytree(source, target, symlinks=True)
        for path in [target, *target.rglob("*")]:
            self._account.own(path)


def end_left_overs() -> None:
    """Ends the servers, and removes the data, of test runs that were killed before they could do it."""
    for base in Path("/tmp").glob("qm-pg-*-*"):
        if base.is_dir() and not psutil.pid_exists(int(base.name.split("-")[2])):
            _end_left_over(base)


def _end_left_over(base: Path) -> None:
    with contextlib.suppress(OSError, ValueError, psutil.Error):
        postmaster = psutil.Process(int((base / "data" / "postmaster.pid").read_text().split()[0]))
        if str(base / "data") in postmaster.cmdline():
            postmaster.send_signal(signal.SIGCONT)
            postmaster.send_signal(signal.SIGQUIT)
            postmaster.wait(timeout=10)
    shutil.rmtree(base, ignore_errors=True)


class _PausedServer:
    """The server is down inside the block, and afterwards as it was."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._was_running = server.running

    def __enter__(self) -> None:
        if self._was_running:
            self._server.stop()

    def __exit__(self, *_: object) -> None:
        if self._was_running:
            self._server.start()


def _as(account: Account) -> dict[str, Any]:
    if account.uid is None:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def _plain(name: str) -> str:
    if not name.isidentifier() or name != name.lower():
        raise ValueError(f"not a plain name for a database: {name!r}")
    return name


def _has_ended(process: psutil.Process) -> bool:
    """A zombie has ended, too: nobody may be there to collect the postmaster's orphans."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
