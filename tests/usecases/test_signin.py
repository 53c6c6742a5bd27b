"""Sign-in: one answer for every bad key, no look-up for what cannot be one, and patience by address."""

import pytest

from mcp_server.domain.errors import RateLimited, Unauthenticated
from mcp_server.domain.keys import ApiKey, digest
from mcp_server.ports.keyring import KeyRing
from mcp_server.services.signin import ATTEMPTS, KNOWN, SignIn, local_owner
from tests.usecases.world import World

UNKNOWN = "qm_red_owner_" + "z" * 24


class Counted:
    """A key ring that counts its look-ups."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring
        self.looked = 0

    async def find(self, key_hash: str) -> ApiKey | None:
        self.looked += 1
        return await self._ring.find(key_hash)


@pytest.fixture
def counted(world: World) -> Counted:
    ring = Counted(world.keyring)
    world.signin = SignIn(ring, world.cache, world.trail)
    return ring


async def _fail(
    world: World, text: str | None = UNKNOWN, address: str | None = "192.0.2.7"
) -> Unauthenticated:
    with pytest.raises(Unauthenticated) as refusal:
        await world.signin.authenticate(text, address=address)
    return refusal.value


async def test_a_good_key_gives_the_caller_of_its_record(world: World):
    caller = await world.signin.authenticate(
        world.texts["red-admin"], address="192.0.2.7", user_agent="agent/1", transport="stdio", process="p1"
    )
    assert (caller.team_id, caller.role, caller.key_id, caller.user) == ("red", "admin", "red-admin", "admin")
    assert (caller.transport, caller.process, caller.address, caller.user_agent) == (
        "stdio",
        "p1",
        "192.0.2.7",
        "agent/1",
    )


async def test_the_role_in_the_text_of_a_key_means_nothing(world: World):
    await _fail(world, world.texts["red-viewer"].replace("viewer", "owner", 1))


async def test_every_bad_key_gets_the_same_answer(world: World):
    await world.do(world.caller(), "revoke_key", key_id="red-member")
    expired = await world.do(world.caller(), "create_key", name="x", role="viewer", expires_days=1)
    world.clock.seconds = 86_400
    answers = {
        str((await _fail(world, text)).payload())
        for text in (UNKNOWN, world.texts["red-member"], expired.key, "nonsense", "qm_red_owner_" + "z" * 23)
    }
    assert len(answers) == 1


@pytest.mark.parametrize("text", [None, ""])
async def test_no_key_at_all_is_no_attempt(world: World, counted: Counted, text: str | None):
    for _ in range(ATTEMPTS + 5):
        await _fail(world, text)
    await world.signin.authenticate(world.texts["red-owner"], address="192.0.2.7")
    assert await world.rows("red", action="sign_in") == []


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "x" * 1_000_000,
        "qm_red_root_" + "z" * 24,
        "qm_red_owner_" + "z" * 25,
        "ü" * 40,
        "\x00",
        "qm__owner_" + "z" * 24,
    ],
)
async def test_what_cannot_be_a_key_costs_no_look_up(world: World, counted: Counted, text: str):
    await _fail(world, text)
    assert counted.looked == 0
    await _fail(world, UNKNOWN)
    assert counted.looked == 1


async def test_after_many_failures_an_address_waits_and_is_not_looked_at(world: World, counted: Counted):
    for _ in range(ATTEMPTS):
        await _fail(world)
    world.clock.seconds = 15
    for text in (UNKNOWN, "nonsense", world.texts["red-owner"]):
        with pytest.raises(RateLimited) as refusal:
            await world.signin.authenticate(text, address="192.0.2.7")
        assert refusal.value.details["retry_after"] == 45
    assert counted.looked == ATTEMPTS
    await world.signin.authenticate(world.texts["red-owner"], address="192.0.2.8")
    world.clock.seconds = 60
    await world.signin.authenticate(world.texts["red-owner"], address="192.0.2.7")


async def test_a_few_failures_are_forgotten_after_a_minute(world: World):
    for minute in range(3):
        world.clock.seconds = minute * 60
        for _ in range(ATTEMPTS - 1):
            await _fail(world)
    await world.signin.authenticate(world.texts["red-owner"], address="192.0.2.7")


async def test_a_key_that_was_good_before_is_not_locked_out_by_its_neighbours(world: World):
    text = world.texts["red-owner"]
    await world.signin.authenticate(text, address="192.0.2.7")
    for _ in range(ATTEMPTS):
        await _fail(world)
    assert (await world.signin.authenticate(text, address="192.0.2.7")).key_id == "red-owner"


async def test_a_key_that_was_good_before_is_still_asked_for_every_time(world: World):
    text = world.texts["red-member"]
    await world.signin.authenticate(text, address="192.0.2.7")
    await world.do(world.caller(), "revoke_key", key_id="red-member")
    for _ in range(ATTEMPTS):
        await _fail(world, text)
    with pytest.raises(RateLimited):
        await world.signin.authenticate(text, address="192.0.2.7")


async def test_the_memory_of_good_keys_is_bounded(world: World):
    class Everybody:
        async def find(self, key_hash: str) -> ApiKey | None:
            return await world.keyring.find(digest(world.texts["red-owner"]))

    signin = SignIn(Everybody(), world.cache, world.trail)
    for at in range(KNOWN + 50):
        await signin.authenticate(f"qm_red_owner_{at:024}")
    assert len(signin._known) == KNOWN


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "192.0.2.8", False),
        ("testclient", "testclient", True),
    ],
)
async def test_attempts_are_counted_by_what_one_host_can_choose(
    world: World, one: str, other: str, same: bool
):
    for _ in range(ATTEMPTS):
        await _fail(world, address=one)
    with pytest.raises(RateLimited if same else Unauthenticated):
        await world.signin.authenticate(UNKNOWN, address=other)


async def test_without_an_address_nothing_is_limited(world: World):
    for _ in range(ATTEMPTS + 5):
        await _fail(world, address=None)


@pytest.mark.parametrize("reason", ["revoked key", "expired key"])
async def test_a_failed_attempt_with_a_key_of_a_team_is_in_its_audit_log(world: World, reason: str):
    if reason == "revoked key":
        await world.do(world.caller(), "revoke_key", key_id="red-viewer")
        text = world.texts["red-viewer"]
    else:
        text = (await world.do(world.caller(), "create_key", name="x", role="viewer", expires_days=1)).key
        world.clock.seconds = 86_400
    await _fail(world, text)
    row = (await world.rows(action="sign_in"))[0]
    assert (row.success, row.error, row.ip) == (False, f"UNAUTHENTICATED: {reason}", "192.0.2.7")
    assert text not in world.on_disk()


async def test_a_failed_attempt_with_an_unknown_key_is_in_no_teams_log_and_its_text_nowhere(world: World):
    await _fail(world)
    assert await world.rows("red", action="sign_in") == []
    assert "unknown key" in world.on_disk()
    assert UNKNOWN not in world.on_disk()


def test_the_local_user_owns_the_team_local():
    caller = local_owner("ann", process="p1")
    assert (caller.team_id, caller.role, caller.key_id, caller.transport) == ("local", "owner", None, "stdio")
    assert caller.id == "local-ann"
