"""The processes of the harness: started, frozen, killed, and never left behind."""

import http.client
import json
import os
import signal
from pathlib import Path

import psutil
import pytest

from .ports import is_open
from .processes import ServerProcess, run_quaymaster

HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "harness", "version": "1"},
    },
}


def health_answers(server: ServerProcess, seconds: float) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=seconds)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except TimeoutError:
        return False
    finally:
        connection.close()


def test_a_served_process_is_ready_on_return_and_ends_in_order_on_sigterm(home: Path) -> None:
    with ServerProcess.serve(home=home) as server:
        assert health_answers(server, seconds=5)
        server.wait_for_stderr(str(server.port))
        assert server.terminate() == 0
        assert not is_open(server.port)


def test_a_killed_process_is_gone_on_return_and_another_one_serves_the_same_home(home: Path) -> None:
    with ServerProcess.serve(home=home) as server:
        server.kill()
        assert server.returncode == -signal.SIGKILL
        assert not psutil.pid_exists(server.pid)
    with ServerProcess.serve(home=home) as server:
        assert health_answers(server, seconds=5)


def test_a_frozen_process_answers_when_it_is_thawed(home: Path) -> None:
    with ServerProcess.serve(home=home) as server:
        server.freeze()
        assert not health_answers(server, seconds=0.5)
        server.thaw()
        assert health_answers(server, seconds=10)


def test_a_stdio_process_speaks_the_protocol_through_its_pipes(home: Path) -> None:
    with ServerProcess.stdio(home=home) as server:
        server.stdin.write(json.dumps(HELLO).encode() + b"\n")
        server.stdin.flush()
        assert json.loads(server.stdout.readline())["result"]["serverInfo"]["name"]
        server.stdin.close()
        assert server.wait_ended() == 0


def test_a_process_that_cannot_start_says_why_at_once(home: Path) -> None:
    with pytest.raises(RuntimeError, match="QUAYMASTER_RATE_LIMIT"):
        ServerProcess.serve(home=home, settings={"QUAYMASTER_RATE_LIMIT": "many"})


def test_nothing_of_the_testers_own_settings_reaches_a_process(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "QUAYMASTER_DATABASE_URL", "postgresql://somebody@elsewhere/theirs")
    shown = run_quaymaster("config", home=home)
    assert shown.returncode == 0, shown.stderr
    assert "elsewhere" not in shown.stdout
    assert str(home) in shown.stdout
