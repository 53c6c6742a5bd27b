"""Sign-in reads the projection, and asks once when it lacks a key."""

from typing import Any

import pytest

from mcp_server.adapters.registry.keyring import RegistryKeyRing
from mcp_server.domain.errors import Corrupt, Unavailable
from mcp_server.domain.keys import digest
from tests.registry.samples import INTENT, NOON, add, found_key, key, rename


class Primary:
    """Counts how often it is asked."""

    def __init__(self, *keys: Any) -> None:
        self.keys = {each.key_hash: each for each in keys}
        self.asked = 0

    async def __call__(self, key_hash: str) -> Any:
        self.asked += 1
        return self.keys.get(key_hash)


async def test_a_new_a_changed_and_a_revoked_key_are_found_as_they_are(mirror, root):
    ring = RegistryKeyRing(root)
    assert await ring.find(digest("secret-1")) is None
    await add(mirror, key())
    assert (await found_key(ring, "secret-1")).good_at(NOON)

    async def revoke(tx: Any) -> None:
        await tx.keys.save((await tx.keys.hold("key1")).change(revoked_at=NOON))

    await mirror.run(revoke, INTENT, line_id="r", pending=False)
    assert not (await found_key(ring, "secret-1")).good_at(NOON)


async def test_a_transaction_without_keys_leaves_the_projection_alone(with_task, root):
    before = (root / "api-keys.json").stat().st_ino
    await rename(with_task, "x")
    assert (root / "api-keys.json").stat().st_ino == before


async def test_the_primary_is_asked_for_what_is_missing_and_only_for_that(mirror, root):
    await add(mirror, key())
    primary = Primary(key("key2", "secret-2"))
    ring = RegistryKeyRing(root, primary)
    assert (await found_key(ring, "secret-1")).id == "key1"
    assert primary.asked == 0
    assert (await found_key(ring, "secret-2")).id == "key2"
    assert primary.asked == 1


async def test_a_no_of_the_primary_holds_for_half_a_second(mirror, root):
    now = [0.0]
    primary = Primary()
    ring = RegistryKeyRing(root, primary, clock=lambda: now[0])
    for _ in range(5):
        assert await ring.find(digest("nobody")) is None
    assert primary.asked == 1
    assert await ring.find(digest("somebody else")) is None
    assert primary.asked == 2
    now[0] = 0.6
    primary.keys[digest("nobody")] = key("late", "nobody")
    assert (await found_key(ring, "nobody")).id == "late"


async def test_what_is_remembered_of_wrong_keys_is_bounded(mirror, root):
    ring = RegistryKeyRing(root, Primary())
    for number in range(3000):
        await ring.find(digest(str(number)))
    assert len(ring._absent) <= 1024


async def test_a_primary_that_is_away_is_no_wrong_key(mirror, root):
    async def away(key_hash: str) -> Any:
        raise Unavailable("away")

    with pytest.raises(Unavailable):
        await RegistryKeyRing(root, away).find(digest("x"))


async def test_a_missing_projection_is_damage_and_opening_the_home_repairs_it(mirror, root, open_mirror):
    await add(mirror, key())
    (root / "api-keys.json").unlink()
    with pytest.raises(Corrupt, match="missing"):
        await RegistryKeyRing(root).find(digest("secret-1"))
    await open_mirror()
    assert await RegistryKeyRing(root).find(digest("secret-1")) is not None


async def test_the_text_of_a_key_is_nowhere_in_the_home(mirror, root):
    await add(mirror, key(text="qm_t1_member_abcdefghijklmnop"))
    await mirror.compact()
    assert all(b"abcdefghijklmnop" not in path.read_bytes() for path in root.iterdir())
