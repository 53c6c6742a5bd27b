"""A TCP proxy for outages at precise moments: between a server under test and PostgreSQL.

It runs in a thread of its own, so that it also works while the test's loop is busy. Its methods are
synchronous and have taken effect when they return.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from .ports import ReservedPort

T = TypeVar("T")

CHUNK = 64 * 1024


class Mode(Enum):
    FORWARD = "forward"
    REFUSE = "refuse"
    SILENT = "silent"


@dataclass
class Trap:
    """Waits for bytes from a client, then does what `TcpProxy.trap` describes. Springs once."""

    pattern: bytes
    moment: Literal["before", "after"]
    effect: Literal["cut", "refuse", "silent"]
    sprung: threading.Event = field(default_factory=threading.Event)

    def wait(self, seconds: float = 10) -> None:
        if not self.sprung.wait(seconds):
            raise TimeoutError(f"no client sent {self.pattern!r} within {seconds} s")


class TcpProxy:
    """Listens on 127.0.0.1 and forwards to a port of 127.0.0.1 until told otherwise."""

    def __init__(self, target_port: int) -> None:
        self._target = target_port
        self._reserved = ReservedPort()
        self._mode = Mode.FORWARD
        self._delay = 0.0
        self._traps: list[Trap] = []
        self._links: set[_Link] = set()
        self._listener: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tcp-proxy", daemon=True)
        self._thread.start()
        self._do(self._listen())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def port(self) -> int:
        return self._reserved.number

    @property
    def connections(self) -> int:
        """How many client connections are open through the proxy."""
        return len(self._links)

    # -- faults ---------------------------------------------------------------------------------------

    def forward(self) -> None:
        """All is well again. Connections that were silenced go on, with nothing lost."""
        self._do(self._set_mode(Mode.FORWARD))

    def refuse(self) -> None:
        """New connections are refused, open ones are cut: the server's process is gone."""
        self._do(self._set_mode(Mode.REFUSE))

    def silence(self) -> None:
        """New connections are accepted and none, old or new, hears anything: a network that swallows."""
        self._do(self._set_mode(Mode.SILENT))

    def cut(self) -> int:
        """Resets all open connections, once; how many there were. New ones are served."""
        return self._do(self._cut())

    def delay(self, seconds: float) -> None:
        """Every piece of data waits this long, in both directions. 0 ends it."""
        self._delay = seconds

    def trap(
        self,
        pattern: bytes,
        *,
        moment: Literal["before", "after"],
        effect: Literal["cut", "refuse", "silent"] = "cut",
    ) -> Trap:
        """The fault happens when a client sends a piece of data that contains the pattern.

        "before": the server never sees that piece. "after": the server has it and has answered, the
        answer does not reach the client: at a commit the outcome is unknown to it. The pattern of a commit
        ends as the client's statement does (a zero byte, or `;`): READ COMMITTED is none.
        """
        trap = Trap(pattern, moment, effect)
        self._traps.append(trap)
        return trap

    def close(self) -> None:
        if self._thread.is_alive():
            self._do(self._set_mode(Mode.REFUSE))
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=5)
            self._loop.close()
            self._reserved.release()

    # -- in the proxy's thread ------------------------------------------------------------------------------

    def _do(self, step: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(step, self._loop).result(timeout=10)

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=512)

    async def _set_mode(self, mode: Mode) -> None:
        self._mode = mode
        if mode is Mode.REFUSE:
            if self._listener is not None:
                self._listener.close()
                self._listener = None
            await self._cut()
        elif self._listener is None:
            await self._listen()
        for link in self._links:
            link.hold(mode is Mode.SILENT)

    async def _cut(self) -> int:
        links = list(self._links)
        for link in links:
            link.reset()
        await asyncio.gather(*(link.ended.wait() for link in links))
        return len(links)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(writer)
        self._links.add(link)
        link.hold(self._mode is Mode.SILENT)
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await link.run(self._carry(link, reader))
        finally:
            link.close()
            self._links.discard(link)

    async def _carry(self, link: "_Link", reader: asyncio.StreamReader) -> None:
        await link.flowing.wait()
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
        link.far = to_server
        async with asyncio.TaskGroup() as directions:
            directions.create_task(self._carry_requests(link, reader, to_server))
            directions.create_task(self._carry_answers(link, from_server))

    async def _carry_requests(
        self, link: "_Link", reader: asyncio.StreamReader, to_server: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(CHUNK):
            await asyncio.sleep(self._delay)
            trap = self._take_trap(data)
            if trap is not None and trap.moment == "before":
                await self._spring(trap)
            link.answer_trap = trap if trap is not None and trap.moment == "after" else link.answer_trap
            await link.flowing.wait()
            to_server.write(data)
            await to_server.drain()
        raise _Ended

    async def _carry_answers(self, link: "_Link", from_server: asyncio.StreamReader) -> None:
        while data := await from_server.read(CHUNK):
            await asyncio.sleep(self._delay)
            if link.answer_trap is not None:
                trap, link.answer_trap = link.answer_trap, None
                await self._spring(trap)
            await link.flowing.wait()
            link.near.write(data)
            await link.near.drain()
        raise _Ended

    def _take_trap(self, data: bytes) -> Trap | None:
        for trap in self._traps:
            if trap.pattern in data:
                self._traps.remove(trap)
                return trap
        return None

    async def _spring(self, trap: Trap) -> None:
        """Runs inside one of the link's own tasks, so cutting that link ends here with a cancellation."""
        effects: dict[str, Callable[[], None]] = {
            "cut": self._reset_all,
            "refuse": self._refuse_now,
            "silent": self._hold_all,
        }
        effects[trap.effect]()
        trap.sprung.set()
        await asyncio.sleep(0)

    def _reset_all(self) -> None:
        for link in list(self._links):
            link.reset()

    def _refuse_now(self) -> None:
        self._mode = Mode.REFUSE
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self._reset_all()

    def _hold_all(self) -> None:
        self._mode = Mode.SILENT
        for link in self._links:
            link.hold(True)


class _Ended(Exception):
    """One side closed: the other direction ends, too."""


class _Link:
    """One client connection and its counterpart."""

    def __init__(self, near: asyncio.StreamWriter) -> None:
        self.near = near
        self.far: asyncio.StreamWriter | None = None
        self.flowing = asyncio.Event()
        self.ended = asyncio.Event()
        self.answer_trap: Trap | None = None
        self._task: asyncio.Task[None] | None = None

    async def run(self, carry: Coroutine[Any, Any, None]) -> None:
        self._task = asyncio.ensure_future(carry)
        try:
            await self._task
        except* (_Ended, OSError):
            pass

    def hold(self, silent: bool) -> None:
        if silent:
            self.flowing.clear()
        else:
            self.flowing.set()

    def reset(self) -> None:
        """RST to both sides instead of an orderly end, as when a machine vanishes and comes back."""
        for writer in (self.near, self.far):
            raw = writer.get_extra_info("socket") if writer is not None else None
            if raw is not None:
                with contextlib.suppress(OSError):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if writer is not None:
                writer.transport.abort()
        if self._task is not None:
            self._task.cancel()

    def close(self) -> None:
        for writer in (self.near, self.far):
            if writer is not None:
                writer.close()
        self.ended.set()
