"""Log lines: one form for people, one for programs, secrets in neither."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from mcp_server import logs

KEY = "qm_local_owner_" + "k" * 24
URL = "postgres://me:hunter2@db.example/quay"


@pytest.fixture(autouse=True)
def own_root() -> Iterator[None]:
    """The root logger as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def written(form: str) -> str:
    stream = io.StringIO()
    logs.configure(level="info", form="json" if form == "json" else "text", stream=stream)
    log = logging.getLogger("mcp_server.some")
    log.debug("too quiet")
    log.warning(
        "opened %s for %s", URL, KEY, extra={"token": "t0p", "tool": "get_project", "key": SecretStr("t1p")}
    )
    try:
        raise RuntimeError(f"no {URL}")
    except RuntimeError:
        log.exception("failed")
    return stream.getvalue()


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_secret_is_written_whatever_way_it_comes(form):
    text = written(form)
    for secret in (KEY, "hunter2", "t0p", "t1p"):
        assert secret not in text
    assert "db.example" in text
    assert "RuntimeError" in text
    assert "too quiet" not in text


def test_each_line_is_one_json_object_with_its_fields():
    first, second = (json.loads(line) for line in written("json").splitlines())
    assert (first["level"], first["logger"], first["tool"]) == ("warning", "mcp_server.some", "get_project")
    assert first["time"].endswith("+00:00")
    assert second["traceback"].startswith("Traceback")
