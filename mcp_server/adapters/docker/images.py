"""Images: found, pulled, built."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from typing import Any

from mcp_server.adapters.docker import answers
from mcp_server.adapters.docker.engine import SLOW, Engine, meaning
from mcp_server.adapters.docker.streams import json_lines
from mcp_server.domain.errors import Conflict, Invalid, NotFound, QuaymasterError, Unavailable
from mcp_server.domain.workloads import LABEL, Image, Owner, image_name
from mcp_server.ports.orchestrator import Progress

PULL = 1800.0
BUILD = 1800.0
SILENCE = 120.0
"""Seconds without a word of progress after which a pull is given up."""
BUILD_SILENCE = 600.0
BETWEEN_LINES = 0.5
LAST_LINES = 20


async def find(engine: Engine, name: str) -> Image | None:
    """The image as this engine has it."""
    name = image_name(name)
    try:
        return answers.image(name, await engine.send("GET", f"images/{name}/json"))
    except NotFound:
        return None


async def ensure(engine: Engine, name: str, progress: Progress | None) -> Image:
    name = image_name(name)
    if found := await find(engine, name):
        return found
    await _pull(engine, name, progress)
    if found := await find(engine, name):
        return found
    raise Unavailable(f"The image {name} was pulled, and the engine does not have it.")


async def build(
    engine: Engine,
    tag: str,
    context: bytes | AsyncIterable[bytes],
    *,
    owner: Owner,
    dockerfile: str,
    progress: Progress | None,
) -> Image:
    tag = image_name(tag)
    labels = {**owner.labels(), f"{LABEL}.kind": "image"}
    params = {"t": tag, "dockerfile": dockerfile, "labels": labels, "rm": True, "forcerm": True}
    teller, last = _Teller(progress), deque[str](maxlen=LAST_LINES)
    async with engine.answer(
        "POST", "build", params=params, archive=context, seconds=BUILD, silence=BUILD_SILENCE
    ) as response:
        async for event in json_lines(response.content):
            if "error" in event:
                raise _failed_step(event, last)
            if line := (event.get("stream") or "").strip():
                last.append(line)
                await teller.tell(line)
    if found := await find(engine, tag):
        return found
    raise Unavailable(f"The engine ended the build of {tag} without an image.")


async def remove(engine: Engine, tag: str, owner: Owner) -> None:
    tag = image_name(tag)
    try:
        answer = await engine.send("GET", f"images/{tag}/json")
        if not owner.owns((answer.get("Config") or {}).get("Labels") or {}):
            raise Conflict(f"The image {tag} belongs to somebody else.", owner="foreign")
        await engine.send("DELETE", f"images/{tag}", seconds=SLOW)
    except NotFound:
        return


async def _pull(engine: Engine, name: str, progress: Progress | None) -> None:
    teller, layers = _Teller(progress), _Layers(name)
    try:
        async for event in _events(engine, name):
            await teller.tell(layers.line_after(event))
    except QuaymasterError as error:
        raise _not_pulled(name, error) from error


async def _events(engine: Engine, name: str) -> AsyncIterator[dict[str, Any]]:
    params = {"fromImage": name}
    async with engine.answer(
        "POST", "images/create", params=params, seconds=PULL, silence=SILENCE
    ) as response:
        async for event in json_lines(response.content):
            if "error" in event:
                raise meaning((event.get("errorDetail") or {}).get("code") or 0, event["error"])
            yield event


def _not_pulled(name: str, error: QuaymasterError) -> QuaymasterError:
    """Both halves of the truth: it is not here, and why it did not come."""
    if isinstance(error, NotFound) or "manifest unknown" in error.message:
        return NotFound(f"The image {name} is not on this engine, and its registry does not know it.")
    return Unavailable(
        f"The image {name} is not on this engine and could not be pulled. {error.message}",
        next="Load the image into the engine, name another, or try again when its registry answers.",
        image=name,
    )


def _failed_step(event: Mapping[str, Any], last: deque[str]) -> QuaymasterError:
    return Invalid(
        f"The build failed: {event['error']}".rstrip(".") + ".",
        next="Read the last lines of the build's output, correct the build and call again.",
        output="\n".join(last),
    )


class _Layers:
    """How far a pull is, as a line."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._done: dict[str, bool] = {}
        self._bytes: dict[str, tuple[int, int]] = {}
        self._again: set[str] = set()

    def line_after(self, event: Mapping[str, Any]) -> str:
        layer, status = event.get("id"), event.get("status") or ""
        if layer and status != f"Pulling from {self._name}":
            self._done[layer] = status in ("Pull complete", "Already exists")
            detail = event.get("progressDetail") or {}
            (self._again.add if status.startswith("Retrying") else self._again.discard)(layer)
            if status == "Downloading" and detail.get("total"):
                self._bytes[layer] = (detail.get("current") or 0, detail["total"])
        here, total = (sum(part) for part in zip(*self._bytes.values(), (0, 0), strict=True))
        line = f"pulling {self._name}: {sum(self._done.values())} of {len(self._done)} layers"
        if total:
            line = f"{line}, {here / 1e6:.0f} of {total / 1e6:.0f} MB"
        return f"{line}; the registry broke off, it is tried again" if self._again else line


class _Teller:
    """Passes lines on, at a bounded rate and no line twice."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._told_at = float("-inf")
        self._told = ""

    async def tell(self, line: str) -> None:
        now = time.monotonic()
        if self._progress is None or line == self._told or now - self._told_at < BETWEEN_LINES:
            return
        self._told, self._told_at = line, now
        await self._progress(line)
