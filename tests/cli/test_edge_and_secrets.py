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
    host = {"QUAYMASTER_EDGE_MODE": "host"}
    checked = run_quaymaster("edge", "check", home=tmp_path, settings=host)
    assert (checked.returncode, "start it" in checked.stdout) == (1, True)


def test_a_container_that_is_made_with_the_first_deployment_is_not_missed_before_it(tmp_path: Path) -> None:
    for edge in ("caddy", "nginx"):
        checked = run_quaymaster("edge", "check", home=tmp_path, settings={"QUAYMASTER_EDGE": edge})
        assert (checked.returncode, checked.stdout) == (0, "")


def test_the_configuration_is_spelled_for_the_version_that_is_named(tmp_path: Path) -> None:
    settings = {
        "QUAYMASTER_EDGE_MODE": "host",
        "QUAYMASTER_EDGE_TLS": "internal",
        "QUAYMASTER_EDGE_EMAIL": "a@quay.test",
    }
    for version, key in (("2.6.2", "ask"), ("v2.7", "ask"), ("2.8", "permission"), ("2.11.7", "permission")):
        printed = run_quaymaster("edge", "config", "--caddy", version, home=tmp_path, settings=settings)
        assert list(json.loads(printed.stdout)["apps"]["tls"]["automation"]["on_demand"]) == [key]
    refused = run_quaymaster("edge", "config", "--caddy", "new", home=tmp_path, settings=settings)
    assert (refused.returncode, refused.stdout) == (2, "")


def test_a_directory_elsewhere_is_used_in_place_of_the_homes(tmp_path: Path) -> None:
    home, place = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir(mode=0o700)
    settings = {"QUAYMASTER_EDGE_MODE": "host", "QUAYMASTER_EDGE_DIR": str(place)}
    printed = run_quaymaster("edge", "config", home=home, settings=settings).stdout
    assert f'"{place}/switch"' in printed
    assert str(home) not in printed
    assert (place / "probe").stat().st_mode & 0o777 == 0o600
    assert not (home / "edge").exists()
    nginx = run_quaymaster("edge", "config", home=home, settings={**settings, "QUAYMASTER_EDGE": "nginx"})
    assert nginx.stdout == f"include {place}/nginx.conf;\n"


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
