"""How a Caddy of this version is spoken to."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mcp_server.adapters.edge.caddy.edge import CaddyEdge
from mcp_server.adapters.edge.caddy.host import HostCaddy
from mcp_server.adapters.edge.caddy.versions import permission_of
from tests.edge.conftest import Stage
from tests.services.edge import CaddyProcess


@pytest.mark.parametrize(
    ("said", "spelling"),
    [
        ("2.6.2\n", "ask"),
        ("v2.7.6 h1:w0NymbG2m9PcvKWsrXO6EEkY9Ru4FJK8uQbYcev1p3A=", "ask"),
        ("v2.8.0 h1:x", "module"),
        ("v2.11.7 h1:yj0Y4fYZGPkSvibBJ1sTWE33xC0fxztVyXEW5iIdUT4=", "module"),
        ("v3.0.0", "module"),
        ("1.0", "ask"),
        ("unknown (devel)", "module"),
        ("", "module"),
    ],
)
def test_who_allows_certificates_is_spelled_as_the_version_has_it(said: str, spelling: str) -> None:
    assert permission_of(said) == spelling


async def test_the_printed_configuration_is_one_that_the_caddy_here_takes(
    make_stage: Callable[..., Stage], caddy_program: Path, tmp_path: Path
) -> None:
    stage = make_stage(tls="internal")
    edge = CaddyEdge(stage.directory, stage.settings, stage.door, HostCaddy((str(caddy_program),)))
    printed = await edge.configuration()
    place = tmp_path / "printed"
    place.mkdir()
    caddy = CaddyProcess(caddy_program, stage.settings, place)
    caddy.config.write_text(printed)
    caddy.validate()
    key = "ask" if caddy_program.name == "caddy-2.6" else "permission"
    assert list(json.loads(printed)["apps"]["tls"]["automation"]["on_demand"]) == [key]
    stage.caddy.stop()
    stage.caddy.config.write_text(printed)
    stage.caddy.start()
    await edge.ensure()
    assert "ask" in json.loads(await edge.configuration("2.7"))["apps"]["tls"]["automation"]["on_demand"]


async def test_a_machine_without_caddy_is_given_the_present_spelling(stage: Stage) -> None:
    assert await HostCaddy(("/nowhere/caddy",)).permission() == "module"
