"""Secrets at rest: what is sealed opens in its place only, with its key only, unchanged only."""

import multiprocessing
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mcp_server.adapters.sealing.aes import AesSealer, associated
from mcp_server.adapters.sealing.keys import FILE, file_keys, forget_older, rotate, setting_and_file
from mcp_server.domain.errors import Corrupt, Unavailable

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
PLACE = ("team", "shop", "production", "API_TOKEN", "3")
contexts = st.lists(st.text(max_size=12), max_size=6).map(tuple)


def sealer(*keys: bytes) -> AesSealer:
    return AesSealer(lambda to_seal: keys)


@given(plaintext=st.binary(max_size=2000), context=contexts)
def test_what_was_sealed_opens_in_its_place(plaintext: bytes, context: tuple[str, ...]) -> None:
    sealed = sealer(KEY).seal(plaintext, context)
    assert sealer(KEY).open(sealed, context) == plaintext
    assert sealed.isascii()
    assert sealed.replace(".", "").replace("-", "").replace("_", "").isalnum()


@given(context=contexts, elsewhere=contexts)
def test_what_was_sealed_opens_nowhere_else(context: tuple[str, ...], elsewhere: tuple[str, ...]) -> None:
    assume(context != elsewhere)
    sealed = sealer(KEY).seal(b"secret", context)
    with pytest.raises(Corrupt):
        sealer(KEY).open(sealed, elsewhere)
    assert associated("k", context) != associated("k", elsewhere)


def test_parts_of_a_context_do_not_run_into_each_other() -> None:
    for first, second in [(("ab", "c"), ("a", "bc")), (("a",), ("a", "")), (("a\x00", "b"), ("a", "\x00b"))]:
        with pytest.raises(Corrupt):
            sealer(KEY).open(sealer(KEY).seal(b"x", first), second)


@given(data=st.data())
def test_a_changed_text_does_not_open(data: st.DataObject) -> None:
    sealed = sealer(KEY).seal(b"a secret of some length", PLACE)
    position = data.draw(st.integers(0, len(sealed) - 1))
    letter = data.draw(st.sampled_from("AZaz09-_. "))
    assume(sealed[position] != letter)
    with pytest.raises((Corrupt, Unavailable)):
        sealer(KEY).open(sealed[:position] + letter + sealed[position + 1 :], PLACE)


@given(length=st.integers(0, 80), extra=st.text("Aa-_=", min_size=1, max_size=4))
def test_a_shortened_or_lengthened_text_does_not_open(length: int, extra: str) -> None:
    sealed = sealer(KEY).seal(b"a secret of some length", PLACE)
    for changed in (sealed[: min(length, len(sealed) - 1)], sealed + extra):
        with pytest.raises((Corrupt, Unavailable)):
            sealer(KEY).open(changed, PLACE)


def test_the_same_secret_is_never_sealed_to_the_same_text() -> None:
    assert len({sealer(KEY).seal(b"x", PLACE) for _ in range(200)}) == 200


def test_the_newest_key_seals_and_older_ones_still_open() -> None:
    old, both = sealer(KEY), sealer(OTHER, KEY)
    sealed = old.seal(b"x", PLACE)
    assert both.open(sealed, PLACE) == b"x"
    assert (both.is_current(sealed), both.is_current(both.seal(b"x", PLACE))) == (False, True)
    assert both.key_id == sealer(OTHER).key_id != old.key_id


def test_a_missing_key_names_the_setting_and_tells_no_secret() -> None:
    sealed = sealer(KEY).seal(b"canary-4", PLACE)
    with pytest.raises(Unavailable) as refused:
        sealer(OTHER).open(sealed, PLACE)
    assert "QUAYMASTER_SECRET_KEY" in refused.value.next
    assert KEY.hex() not in str(refused.value.payload())
    assert sealer(KEY).key_id in refused.value.message


def test_a_text_sealed_by_a_key_that_came_later_opens_without_a_restart(tmp_path: Path) -> None:
    running = AesSealer(setting_and_file(None, tmp_path))
    running.seal(b"x", PLACE)
    rotate(tmp_path)
    sealed = AesSealer(setting_and_file(None, tmp_path)).seal(b"y", PLACE)
    assert running.open(sealed, PLACE) == b"y"


def test_the_key_file_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    home = tmp_path / "home"
    first = file_keys(home)
    assert file_keys(home) == first
    assert [len(key) for key in first] == [32]
    assert stat.S_IMODE((home / FILE).stat().st_mode) == 0o600
    assert sorted(path.name for path in home.iterdir()) == [FILE, "secret.key.lock"]
    (home / FILE).chmod(0o644)
    file_keys(home)
    assert stat.S_IMODE((home / FILE).stat().st_mode) == 0o600


@pytest.mark.parametrize("content", ["", "\n", "not a key", "ab" * 31, "ab" * 32 + "\nxx", "\x00" * 64])
def test_a_key_file_that_does_not_parse_is_never_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    for attempt in (lambda: file_keys(tmp_path), lambda: rotate(tmp_path)):
        with pytest.raises(Unavailable) as refused:
            attempt()
        assert "QUAYMASTER_SECRET_KEY" in refused.value.message
    assert (tmp_path / FILE).read_text() == content


def test_the_key_of_the_setting_wins_and_the_files_keys_still_open(tmp_path: Path) -> None:
    by_file = AesSealer(setting_and_file(None, tmp_path))
    sealed = by_file.seal(b"x", PLACE)
    by_setting = AesSealer(setting_and_file(KEY, tmp_path))
    assert by_setting.open(sealed, PLACE) == b"x"
    assert by_setting.key_id == sealer(KEY).key_id
    assert not by_setting.is_current(sealed)


def test_with_a_setting_no_file_is_made(tmp_path: Path) -> None:
    AesSealer(setting_and_file(KEY, tmp_path)).seal(b"x", PLACE)
    assert list(tmp_path.iterdir()) == []


def test_a_key_of_the_wrong_length_is_refused_at_use_and_not_at_start(tmp_path: Path) -> None:
    broken = AesSealer(setting_and_file(b"short", tmp_path))
    with pytest.raises(Unavailable, match="QUAYMASTER_SECRET_KEY"):
        broken.seal(b"x", PLACE)


def test_rotating_puts_a_new_key_before_the_others_and_forgetting_keeps_it(tmp_path: Path) -> None:
    before = file_keys(tmp_path)
    after = rotate(tmp_path)
    assert after[1:] == before
    forget_older(tmp_path)
    assert file_keys(tmp_path) == after[:1]
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


def _make(home: str, gate: object, found: object) -> None:
    gate.wait()  # type: ignore[attr-defined]
    found.put(file_keys(Path(home)))  # type: ignore[attr-defined]


def _turn(home: str, gate: object, found: object) -> None:
    gate.wait()  # type: ignore[attr-defined]
    found.put(rotate(Path(home)))  # type: ignore[attr-defined]


def race(target: object, home: Path, count: int) -> list[Sequence[bytes]]:
    context = multiprocessing.get_context("fork")
    gate, found = context.Event(), context.Queue()
    racers = [context.Process(target=target, args=(str(home), gate, found)) for _ in range(count)]  # type: ignore[arg-type]
    for racer in racers:
        racer.start()
    gate.set()
    results = [found.get(timeout=20) for _ in racers]
    for racer in racers:
        racer.join(timeout=20)
    return results


def test_processes_that_begin_at_one_time_end_with_one_key(tmp_path: Path) -> None:
    for turn in range(15):
        results = race(_make, tmp_path / str(turn), 4)
        assert len(set(results)) == 1
        assert results[0] == file_keys(tmp_path / str(turn))


def test_rotations_at_one_time_lose_no_key(tmp_path: Path) -> None:
    first = file_keys(tmp_path)
    race(_turn, tmp_path, 4)
    keys = file_keys(tmp_path)
    assert len(set(keys)) == 5
    assert keys[-1:] == first


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_home_that_cannot_be_written_names_the_setting(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(Unavailable) as refused:
        file_keys(tmp_path / "home")
    assert "QUAYMASTER_SECRET_KEY" in refused.value.next
