"""The directory that is the state of the edge: on its own, without a proxy."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server.adapters.edge import switch
from mcp_server.adapters.edge.switch import SwitchDirectory
from mcp_server.domain.errors import Conflict, Invalid, Unavailable
from mcp_server.domain.routes import Preview, Route, Target
from mcp_server.domain.slots import SlotName
from tests.services.processes import CHECKOUT

T = TypeVar("T")

APP = "app.production"
HOST = "app.quay.test"
BLUE = Target(host="app-blue", port=3000)
GREEN = Target(host="app-green", port=3000)
SHOP = Target(host="shop", port=3000)
MOVED = Target(host="app-green", port=8080)
SLOTS: tuple[tuple[SlotName, Target], ...] = (("green", GREEN), ("blue", BLUE))
PREVIEW = Preview(host="app-production-green.quay.test", slot="green", target=GREEN)

BEFORE = Route(name=APP, active="blue", target=BLUE, hosts=(HOST,), previews=(PREVIEW,), tls=(HOST,))
AFTER = BEFORE.change(active="green", target=GREEN)


@pytest.fixture
def directory(tmp_path: Path) -> SwitchDirectory:
    return SwitchDirectory(tmp_path / "edge", "one")


def read(directory: SwitchDirectory) -> tuple[Route, ...]:
    return directory.routes()


# -- what it keeps -------------------------------------------------------------------------------------------


def test_a_rebuilt_directory_shows_exactly_what_was_wanted_and_needs_nothing_then(
    directory: SwitchDirectory,
) -> None:
    wanted = (BEFORE, Route(name="shop.staging", hosts=("shop-staging.quay.test",)))
    assert {repair.kind for repair in directory.rebuild(wanted)} == {"route", "host", "preview", "tls"}
    assert read(directory) == wanted
    assert directory.rebuild(wanted) == ()
    assert directory.strays() == ()


def test_a_route_that_is_right_is_not_touched_by_a_rebuild_of_others(directory: SwitchDirectory) -> None:
    directory.rebuild([BEFORE])
    times = {path: path.stat().st_mtime_ns for path in directory.root.rglob("app*")}
    time.sleep(0.01)
    directory.rebuild([BEFORE, Route(name="shop.production", active="blue", target=SHOP)])
    assert {path: path.stat().st_mtime_ns for path in directory.root.rglob("app*")} == times


def test_a_rebuild_removes_what_is_not_wanted_and_says_so(directory: SwitchDirectory) -> None:
    directory.rebuild([BEFORE])
    directory.allow_tls("gone.quay.test")
    (directory.root / "switch/hosts/else.where.test").symlink_to("/etc")
    repaired = {(repair.kind, repair.name) for repair in directory.rebuild([])}
    assert repaired >= {
        ("route", APP),
        ("host", HOST),
        ("tls", "gone.quay.test"),
        ("host", "else.where.test"),
    }
    assert read(directory) == ()
    assert list((directory.root / "switch").rglob("*/*")) == []


def test_a_host_name_claimed_twice_is_refused_before_anything_changes(directory: SwitchDirectory) -> None:
    directory.rebuild([BEFORE])
    with pytest.raises(Invalid, match="more than one"):
        directory.rebuild([AFTER, Route(name="shop.production", hosts=(HOST,))])
    assert read(directory) == (BEFORE,)


def test_a_new_target_of_the_idle_slot_replaces_its_old_one(directory: SwitchDirectory) -> None:
    directory.rebuild([BEFORE])
    for target in (GREEN, MOVED):
        directory.point(APP, "green", target)
        assert read(directory)[0].target == target
        directory.point(APP, "blue", BLUE)
    assert os.listdir(directory.root / "switch/routes" / APP / "green") == [str(MOVED)]


def test_an_old_target_stays_while_a_reader_of_the_last_switch_may_look_for_it(
    directory: SwitchDirectory,
) -> None:
    directory.point(APP, "green", GREEN)
    directory.point(APP, "blue", BLUE)
    begun = time.monotonic()
    directory.point(APP, "green", MOVED)
    assert time.monotonic() - begun >= 0.8 * switch.SETTLED


def test_a_host_that_moves_between_routes_is_never_without_one(directory: SwitchDirectory) -> None:
    directory.rebuild([BEFORE, Route(name="shop.production", active="blue", target=GREEN)])
    gaps = 0
    with ThreadPoolExecutor(1) as pool:
        moves = pool.submit(
            lambda: repeat(lambda name: directory.attach(HOST, name), ("shop.production", APP), 200)
        )
        while not moves.done():
            gaps += not (directory.root / "switch/hosts" / HOST / "blue").exists()
    moves.result()
    assert gaps == 0


def test_a_reader_always_finds_a_target_while_slots_are_switched(directory: SwitchDirectory) -> None:
    directory.rebuild([BEFORE])
    place = directory.root / "switch/hosts" / HOST
    seen: set[str] = set()
    with ThreadPoolExecutor(1) as pool:
        switches = pool.submit(lambda: repeat(lambda aim: directory.point(APP, *aim), SLOTS, 300))
        while not switches.done():
            seen.add(look_up(place))
    switches.result()
    assert seen == {str(BLUE), str(GREEN)}


def repeat(act: Callable[[T], None], values: tuple[T, ...], times: int) -> None:
    for _ in range(times):
        for value in values:
            act(value)


def look_up(place: Path) -> str:
    """As the proxy does: list, then look at what was listed, in the order on-green, blue."""
    for name in ("on-green", "blue"):
        try:
            for target in sorted(os.listdir(place / name)):
                if (place / name / target).exists():
                    return target
        except FileNotFoundError:
            continue
    return "nothing"


def test_an_umask_of_the_server_does_not_lock_the_proxy_out(directory: SwitchDirectory) -> None:
    before = os.umask(0o077)
    try:
        directory.rebuild([BEFORE])
        directory.token()
    finally:
        os.umask(before)
    for path in (directory.root / "switch").rglob("*"):
        if not path.is_symlink():
            assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644)
    assert (directory.root / "probe").stat().st_mode & 0o777 == 0o600


# -- whose it is -------------------------------------------------------------------------------------------


def test_another_installation_reads_nothing_into_it_and_changes_nothing(directory: SwitchDirectory) -> None:
    directory.rebuild([BEFORE])
    other = SwitchDirectory(directory.root, "two")
    for act in (
        other.claim,
        lambda: other.point(APP, "green", GREEN),
        lambda: other.rebuild([]),
        lambda: other.forget(APP),
    ):
        with pytest.raises(Conflict, match="another installation"):
            act()
    assert read(directory) == (BEFORE,)


def test_a_directory_from_when_the_home_was_an_installation_of_its_own_is_ours(
    directory: SwitchDirectory,
) -> None:
    directory.rebuild([BEFORE])
    SwitchDirectory(directory.root, "shared", home="one").point(APP, "green", GREEN)
    assert read(directory) == (AFTER,)
    with pytest.raises(Conflict, match="another installation"):
        directory.claim()
    with pytest.raises(Conflict, match="another installation"):
        SwitchDirectory(directory.root, "three", home="two").claim()


def test_two_processes_change_one_route_one_after_the_other(directory: SwitchDirectory) -> None:
    directory.rebuild([BEFORE])
    again = SwitchDirectory(directory.root, "one")
    with ThreadPoolExecutor(4) as pool:
        work = [pool.submit(one.point, APP, "green", GREEN) for one in (directory, again) for _ in range(50)]
        work += [pool.submit(one.point, APP, "blue", BLUE) for one in (directory, again) for _ in range(50)]
    for done in work:
        done.result()
    assert read(directory)[0] in (BEFORE, AFTER)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_directory_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "edge").mkdir(mode=0o500)
    with pytest.raises(Unavailable):
        SwitchDirectory(tmp_path / "edge", "one").claim()


def test_a_file_in_the_place_of_the_directory_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "edge").write_text("")
    with pytest.raises(Unavailable):
        SwitchDirectory(tmp_path / "edge", "one").claim()


# -- names ---------------------------------------------------------------------------------------------------

HOSTILE = [
    *("", ".", "..", "*", "a/b", "../x", "a.b/..", "a..b", "A.b", "a.b.", "-a.b", "a b.c", "{x}.y", "a.b\n"),
    *("ä.de", "x" * 64 + ".de", "[a].b", "a\x00.b", "a.b;", '"a.b"', "localhost"),
]


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_host_name_touches_nothing(directory: SwitchDirectory, name: str) -> None:
    directory.rebuild([BEFORE])
    everything = sorted(directory.root.rglob("*"))
    for act in (
        lambda: directory.attach(name, APP),
        lambda: directory.detach(name),
        lambda: directory.allow_tls(name),
        lambda: directory.deny_tls(name),
        lambda: directory.attach(HOST, name),
        lambda: directory.point(name, "blue", BLUE),
        lambda: directory.forget(name),
        lambda: Target(host=name, port=1) if name != "localhost" else Target.parse(name),
    ):
        with pytest.raises(ValueError, match=r"not a|target|NAME"):
            act()
    assert sorted(directory.root.rglob("*")) == everything


@given(text=st.text() | st.text(alphabet="ab-.*/{}\\[]?\n \"'$", max_size=12))
def test_any_text_is_refused_or_becomes_exactly_one_entry(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    directory = SwitchDirectory(tmp_path_factory.mktemp("any") / "edge", "one")
    directory.claim()
    try:
        directory.attach(text, APP)
    except ValueError:
        assert os.listdir(directory.root / "switch/hosts") == []
    else:
        assert os.listdir(directory.root / "switch/hosts") == [text]
        assert read(directory) == (Route(name=APP, hosts=(text,)),)
    assert {path.name for path in directory.root.parent.iterdir()} == {"edge"}


# -- cut short -----------------------------------------------------------------------------------------------

STEPS = [
    (
        "edge.point.written",
        "d.point('app.production', 'green', Target(host='app-green', port=3000))",
        "before",
    ),
    (
        "edge.point.switched",
        "d.point('app.production', 'green', Target(host='app-green', port=3000))",
        "after",
    ),
    ("edge.point.done", "d.point('app.production', 'green', Target(host='app-green', port=3000))", "after"),
    ("edge.point.written", "d.point('new.production', 'green', Target(host='new', port=1))", "before"),
    ("edge.point.switched", "d.point('new.production', 'green', Target(host='new', port=1))", "new"),
    ("edge.attach.written", "d.attach('www.quay.test', 'app.production')", "before"),
    ("edge.attach.linked", "d.attach('www.quay.test', 'app.production')", "www"),
    ("edge.detach.denied", "d.detach('app.quay.test')", "denied"),
    ("edge.forget.detached", "d.forget('app.production')", "half"),
    ("edge.remove.renamed", "d.forget('app.production')", "gone"),
]
EXPECTED = {
    "before": (BEFORE,),
    "after": (AFTER,),
    "new": (BEFORE, Route(name="new.production", active="green", target=Target(host="new", port=1))),
    "www": (BEFORE.change(hosts=(HOST, "www.quay.test")),),
    "denied": (BEFORE.change(tls=()),),
}


@pytest.mark.parametrize(("point", "call", "state"), STEPS)
def test_a_kill_at_any_step_leaves_the_state_before_or_after_and_the_call_can_be_repeated(
    directory: SwitchDirectory, point: str, call: str, state: str
) -> None:
    directory.rebuild([BEFORE])
    assert run(directory.root, call, point) == -signal.SIGKILL
    if state in EXPECTED:
        assert read(directory) == EXPECTED[state]
    else:
        assert all(HOST not in route.hosts or route.active == "blue" for route in read(directory))
    assert run(directory.root, call) == 0
    directory.claim()
    assert list(directory.root.rglob(".new-*")) == []
    assert directory.strays() == ()
    directory.rebuild([AFTER])
    assert read(directory) == (AFTER,)


def test_a_killed_change_of_target_leaves_the_slot_reachable(directory: SwitchDirectory) -> None:
    directory.rebuild([AFTER])
    directory.point(APP, "blue", BLUE)
    call = "d.point('app.production', 'green', Target(host='app-green', port=8080))"
    assert run(directory.root, call, "edge.point.added") == -signal.SIGKILL
    assert read(directory)[0].active == "blue"
    assert run(directory.root, call) == 0
    assert read(directory)[0].target == MOVED


def run(root: Path, call: str, fault: str | None = None) -> int:
    program = (
        "from pathlib import Path\n"
        "from mcp_server.adapters.edge.switch import SwitchDirectory\n"
        "from mcp_server.domain.routes import Target\n"
        f"d = SwitchDirectory(Path({str(root)!r}), 'one')\n{call}\n"
    )
    environment = {"PYTHONPATH": str(CHECKOUT), "PATH": os.defpath}
    if fault is not None:
        environment["QUAYMASTER_FAULT"] = f"{fault}:KILL"
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, timeout=60, check=False
    ).returncode
