"""What a start puts off, so that the first answer comes sooner: and that it comes at all, afterwards."""

from __future__ import annotations

import gc
import importlib
import json
import socket
import subprocess
import sys
import weakref
from pathlib import Path

import pytest

from mcp_server.adapters.host.collector import resting
from tests.acceptance.wire import receive, request, send
from tests.services.processes import ServerProcess, quaymaster_environment


def test_the_engine_is_asked_after_the_first_answer_and_without_a_further_question(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(tmp_path / "engine.sock"))
        engine.listen()
        settings = {"DOCKER_HOST": f"unix://{tmp_path}/engine.sock"}
        with ServerProcess.stdio(home=home, settings=settings) as server:
            send(server, request(1, "tools/list"))
            assert receive(server)["result"]["tools"]
            engine.setblocking(False)
            with pytest.raises(BlockingIOError):
                engine.accept()
            engine.settimeout(60)
            connection, _ = engine.accept()
            connection.close()
            server.stdin.close()
            assert server.wait_ended(30) == 0


def test_a_client_that_leaves_before_that_keeps_no_process(tmp_path: Path) -> None:
    with ServerProcess.stdio(home=tmp_path) as server:
        send(server, request(1, "tools/list"))
        receive(server)
        server.stdin.close()
        assert server.wait_ended(10) == 0
        assert "Traceback" not in server.stderr


COUNTING = """
import atexit, gc, sys
collections = []
gc.callbacks.append(lambda phase, info: collections.append(phase))
atexit.register(lambda: print("collected", len(collections) // 2, gc.isenabled(), file=sys.stderr))
sys.argv = ["quaymaster", "stdio"]
from mcp_server.__main__ import main
main()
"""


def test_a_start_up_to_its_first_answer_hardly_collects_and_the_collector_works_afterwards(
    tmp_path: Path,
) -> None:
    """About 50 times, all outside the loading of modules; 270 times where the collector does not rest."""
    done = subprocess.run(
        [sys.executable, "-c", COUNTING],
        env=quaymaster_environment(tmp_path),
        input=json.dumps(request(1, "tools/list")) + "\n",
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert json.loads(done.stdout)["result"]["tools"]
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("collected")]
    _, times, works = said.split()
    assert int(times) < 130
    assert works == "True"


class Garbage:
    itself: Garbage


def test_the_collector_works_again_when_loading_fails() -> None:
    collected: list[int] = []
    with pytest.raises(ImportError), resting():
        importlib.import_module("mcp_server.no_such_module")
    try:
        assert gc.isenabled()
        garbage = Garbage()
        garbage.itself = garbage
        weakref.finalize(garbage, collected.append, 1)
        del garbage
        gc.collect()
        assert collected == [1]
    finally:
        gc.unfreeze()
