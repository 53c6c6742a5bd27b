"""`edge config|check` and `secrets rotate|reset`, as an operator runs them."""

from __future__ import annotations

import json
from pathlib import Path

from mcp_server.adapters.sealing.aes import AesSealer
from mcp_server.adapters.sealing.keys import FILE, setting_and_file
from tests.services.processes import run_quaymaster

PLACE = ("somewhere",)


def sealer(home: Path, setting: bytes | None = None) -> AesSealer:
    return AesSealer(setting_and_file(setting, home))


def test_the_edges_configuration_is_the_same_each_time_and_what_is_missing_is_said(tmp_path: Path) -> None:
    first = run_quaymaster("edge", "config", home=tmp_path)
    assert json.loads(first.stdout)["apps"]["http"]["servers"]
    assert run_quaymaster("edge", "config", home=tmp_path).stdout == first.stdout
    checked = run_quaymaster("edge", "check", home=tmp_path)
    assert checked.returncode == 1
    assert "No Caddy of this installation answers" in checked.stdout


def test_a_rotated_key_seals_and_the_one_before_still_opens(tmp_path: Path) -> None:
    old = sealer(tmp_path).seal(b"x", PLACE)
    rotated = run_quaymaster("secrets", "rotate", home=tmp_path)
    assert (rotated.returncode, rotated.stdout) == (0, "")
    assert sealer(tmp_path).open(old, PLACE) == b"x"
    assert not sealer(tmp_path).is_current(old)


def test_a_key_that_is_lost_is_replaced_only_when_told_and_its_file_is_kept(tmp_path: Path) -> None:
    run_quaymaster("keys", "create", "--team", "local", "--role", "owner", home=tmp_path)
    (tmp_path / FILE).write_text("damaged")
    assert run_quaymaster("secrets", "reset", home=tmp_path).returncode == 2
    assert (tmp_path / FILE).read_text() == "damaged"
    assert run_quaymaster("secrets", "reset", "--yes", home=tmp_path).returncode == 0
    assert sealer(tmp_path).seal(b"x", PLACE)
    [kept] = tmp_path.glob(f"{FILE}.lost-*")
    assert kept.read_text() == "damaged"
