"""A Caddy on the host that runs as another user than Quaymaster."""

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from mcp_server.adapters.edge.caddy.config import CaddySettings
from mcp_server.adapters.edge.caddy.edge import CaddyEdge
from mcp_server.adapters.edge.caddy.host import HostCaddy
from mcp_server.adapters.edge.probes import Door
from mcp_server.adapters.edge.switch import SwitchDirectory
from mcp_server.domain.errors import Unavailable
from mcp_server.domain.routes import Target
from tests.services.edge import App, CaddyProcess, get
from tests.services.ports import ReservedPort

CADDYS, SOMEBODY = 65534, 65533
ROUTE, HOST = "app.production", "app.quay.test"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a program as another user")


@dataclass
class Place:
    """A home that is closed, a folder that is open to all, and an edge on a directory of either."""

    home: Path
    open: Path
    edge: Callable[[Path], CaddyEdge]
    port: int
    app: App


@pytest.fixture
def place(caddy_program: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="qm-edge-")))
        folder.chmod(0o755)
        home = folder / "home"
        home.mkdir(mode=0o700)
        port = ReservedPort()
        stack.callback(port.release)

        def edge(root: Path) -> CaddyEdge:
            directory = SwitchDirectory(root, "one")
            directory.claim()
            settings = CaddySettings(
                installation="one",
                token=directory.token(),
                switch=str(root / "switch"),
                address="127.0.0.1",
                http_port=port.number,
            )
            stack.enter_context(CaddyProcess(caddy_program, settings, folder, CADDYS))
            door = Door("127.0.0.1", port.number, 0, "off", directory.token())
            return CaddyEdge(directory, settings, door, HostCaddy())

        yield Place(home, folder, edge, port.number, stack.enter_context(App("blue", folder)))


async def served(place: Place, root: Path) -> CaddyEdge:
    edge = place.edge(root)
    await edge.ensure()
    await edge.attach(HOST, ROUTE)
    await edge.point(ROUTE, "blue", Target(host="127.0.0.1", port=place.app.port))
    assert get(place.port, HOST).body == "blue"
    assert await edge.check() == ()
    return edge


async def test_a_directory_in_a_closed_home_is_told_before_anything_is_sent_there(place: Place) -> None:
    edge = place.edge(place.home / "edge")
    with pytest.raises(Unavailable, match="user cannot read") as raised:
        await edge.ensure()
    assert "QUAYMASTER_EDGE_DIR" in raised.value.next
    [problem] = await edge.check()
    assert "cannot read" in problem


async def test_a_directory_elsewhere_is_read_while_the_home_stays_closed_and_the_word_unreadable(
    place: Place,
) -> None:
    await served(place, place.open / "edge")
    assert not readable(CADDYS, place.open / "edge" / "probe")
    assert not readable(CADDYS, place.home)


async def test_a_directory_that_was_prepared_for_caddys_group_is_closed_to_everybody_else(
    place: Place,
) -> None:
    root = place.open / "edge"
    root.mkdir(mode=0o750)
    os.chown(root, 0, CADDYS)
    root.chmod(0o2750)
    await served(place, root)
    assert readable(CADDYS, root / "switch" / "hosts")
    assert not readable(SOMEBODY, root / "switch" / "hosts")


async def test_a_directory_that_others_may_write_is_a_problem(place: Place) -> None:
    edge = await served(place, place.open / "edge")
    (place.open / "edge").chmod(0o777)
    [problem] = await edge.check()
    assert "could take all traffic" in problem


def readable(user: int, path: Path) -> bool:
    asked = ["test", "-r", str(path)]
    return not subprocess.run(asked, user=user, group=user, extra_groups=[], check=False).returncode
