"""Every command as a person or a script runs it: what is printed where, and how it ends."""

from __future__ import annotations

import json
import select
import shlex
import socket
import subprocess
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.services.processes import (
    CHECKOUT,
    ServerProcess,
    quaymaster_command,
    quaymaster_environment,
    run_quaymaster,
)


def lines(text: str) -> list[str]:
    return text.strip().splitlines()


def key_list(home: Path) -> list[dict[str, Any]]:
    return list(json.loads(run_quaymaster("keys", "list", "--json", home=home).stdout))


def test_a_new_key_alone_is_on_stdout_and_what_it_is_on_stderr(tmp_path):
    made = run_quaymaster(
        *("keys", "create", "--team", "local", "--role", "member", "--expires", "7", "--rate-limit", "900"),
        home=tmp_path,
    )
    assert made.returncode == 0
    [key] = lines(made.stdout)
    assert key.startswith("qm_local_member_")
    assert key not in made.stderr
    assert "member of team local, until " in made.stderr
    [listed] = key_list(tmp_path)
    assert (listed["role"], listed["state"], listed["rate_limit"]) == ("member", "good", 900)
    assert key not in json.dumps(listed)


def test_keys_are_listed_rotated_and_revoked(tmp_path):
    run_quaymaster("keys", "create", "--team", "local", "--role", "owner", "--name", "ci", home=tmp_path)
    first = key_list(tmp_path)[0]["id"]
    table = run_quaymaster("keys", "list", home=tmp_path).stdout
    assert lines(table)[0].split() == ["ID", "ROLE", "STATE", "PREFIX", "EXPIRES", "NAME"]
    assert first in table
    rotated = run_quaymaster("keys", "rotate", first, home=tmp_path)
    assert lines(rotated.stdout)[0].startswith("qm_local_owner_")
    states = {key["id"]: key["state"] for key in key_list(tmp_path)}
    assert states.pop(first) == "revoked"
    [second] = states
    assert run_quaymaster("keys", "revoke", second, home=tmp_path).returncode == 0
    assert {key["state"] for key in key_list(tmp_path)} == {"revoked"}


def test_a_name_moves_no_cursor_of_a_terminal(tmp_path):
    named = run_quaymaster(
        "keys", "create", "--team", "local", "--role", "viewer", "--name", "a\x1b[2J\nb\x9bc", home=tmp_path
    )
    assert "\x1b" not in named.stderr
    table = run_quaymaster("keys", "list", home=tmp_path).stdout
    assert lines(table)[1].endswith("a\\u001b[2J\\u000ab\\u009bc")
    assert key_list(tmp_path)[0]["name"] == "a\x1b[2J\nb\x9bc"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["keys", "create", "--team", "none", "--role", "owner"], 4, "no team 'none'"),
        (["keys", "list"], 4, "quaymaster keys create --team local --role owner"),
        (["keys", "revoke", "k-none"], 4, "no key with that id. 'quaymaster keys list"),
        (["keys", "create", "--team", "local", "--role", "king"], 2, "invalid choice"),
        (["keys", "create", "--team", "local", "--role", "owner", "--scopes", "x"], 2, "scopes"),
        (["keys"], 2, "required"),
        (["nonsense"], 2, "invalid choice"),
        (["migrate", "status"], 2, "no PostgreSQL is configured"),
        (["registry", "import"], 2, "no PostgreSQL is configured"),
        (["locks", "check", "--project", "shop"], 2, "name the paths, or pass --staged"),
        (["serve", "--port", "99999"], 2, "must be a whole number, 0 to 65535; not '99999'"),
        (
            ["keys", "create", "--team", "local", "--role", "owner", "--expires", "-1"],
            2,
            "must be whole days, 1 to 3650; not '-1'",
        ),
        (
            ["keys", "create", "--team", "local", "--role", "owner", "--rate-limit", "0"],
            2,
            "must be requests a minute, 1 to 1000000; not '0'",
        ),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence_with_its_exit_code(tmp_path, arguments, code, said):
    ended = run_quaymaster(*arguments, home=tmp_path)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_version_is_a_line_on_stdout(tmp_path):
    shown = run_quaymaster("--version", home=tmp_path)
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, f"quaymaster {version('quaymaster')}\n", "")


def test_wrong_settings_are_all_named_at_once_and_none_is_quoted(tmp_path):
    names = ("QUAYMASTER_RATE_LIMIT", "QUAYMASTER_TOOLSETS", "QUAYMASTER_EDGE_MODE")
    settings = {name: f"hunter{number}" for number, name in enumerate(names)}
    ended = run_quaymaster("config", home=tmp_path, settings=settings)
    assert ended.returncode == 2
    assert [line.partition(":")[0] for line in lines(ended.stderr)] == list(settings)
    assert "hunter" not in ended.stderr


def test_config_shows_where_each_value_comes_from_and_hides_secrets(tmp_path):
    settings = {"QUAYMASTER_DATABASE_URL": "postgresql://me:hunter2@db.example/quay"}
    shown = run_quaymaster("config", "--json", home=tmp_path, settings=settings)
    assert "hunter2" not in shown.stdout + shown.stderr
    rows = {row["name"]: row for row in json.loads(shown.stdout)}
    assert "db.example" in rows["QUAYMASTER_DATABASE_URL"]["value"]
    assert rows["QUAYMASTER_HOME"]["source"] == "environment"


def test_a_command_works_beside_a_running_server_and_its_key_is_good_there(tmp_path):
    with ServerProcess.serve(home=tmp_path):
        for role in ("owner", "viewer"):
            made = run_quaymaster("keys", "create", "--team", "local", "--role", role, home=tmp_path)
            assert made.returncode == 0, made.stderr
        assert len(key_list(tmp_path)) == 2
        assert run_quaymaster("registry", "compact", home=tmp_path).returncode == 0
        assert run_quaymaster("registry", "verify", home=tmp_path).returncode == 0


def test_a_sound_registry_is_verified_and_exported(tmp_path):
    run_quaymaster("keys", "create", "--team", "local", "--role", "owner", home=tmp_path)
    verified = run_quaymaster("registry", "verify", "--json", home=tmp_path)
    assert verified.returncode == 0
    assert json.loads(verified.stdout)["records"]["keys"] == 1
    exported = run_quaymaster("registry", "export", home=tmp_path)
    assert [team["id"] for team in json.loads(exported.stdout)["records"]["teams"]] == ["local"]
    target = tmp_path / "out.json"
    assert run_quaymaster("registry", "export", "--to", str(target), home=tmp_path).returncode == 0
    assert target.stat().st_mode & 0o777 == 0o600
    assert json.loads(target.read_text())["records"] == json.loads(exported.stdout)["records"]
    assert run_quaymaster("registry", "export", "--to", str(target), home=tmp_path).returncode == 1
    none = run_quaymaster("registry", "conflicts", "--json", home=tmp_path)
    assert (none.returncode, json.loads(none.stdout)) == (0, [])


def test_a_damaged_registry_is_told_by_file_and_line_and_set_aside_on_request(tmp_path):
    for _ in range(3):
        run_quaymaster("keys", "create", "--team", "local", "--role", "owner", home=tmp_path)
    journal = max(tmp_path.glob("journal-*"), key=lambda path: path.stat().st_size)
    content = bytearray(journal.read_bytes())
    content[len(content) // 2] ^= 1
    journal.write_bytes(content)
    refused = run_quaymaster("keys", "list", home=tmp_path)
    assert refused.returncode == 1
    assert journal.name in refused.stderr
    damaged = run_quaymaster("registry", "verify", home=tmp_path)
    assert damaged.returncode == 1
    assert f"damaged: {journal}, line " in damaged.stderr
    assert run_quaymaster("registry", "verify", "--set-aside", home=tmp_path).returncode == 0
    assert run_quaymaster("keys", "list", home=tmp_path).returncode == 0


def test_doctor_says_what_works_and_fails_where_something_does_not(tmp_path):
    well = run_quaymaster("doctor", "--json", home=tmp_path)
    assert well.returncode == 0, well.stdout
    assert {row["state"] for row in json.loads(well.stdout)} <= {"ok", "note"}
    away = {"QUAYMASTER_DATABASE_URL": "postgresql://me:hunter2@127.0.0.1:1/quay"}
    ill = run_quaymaster("doctor", home=tmp_path, settings=away)
    assert ill.returncode == 1
    assert "FAIL  PostgreSQL: PostgreSQL cannot be reached (ConnectionRefusedError): " in ill.stdout
    assert "@127.0.0.1:1/quay\n" in ill.stdout
    assert ill.stdout.count("PostgreSQL cannot be reached") == 2, "once for the store, once for itself"
    assert "hunter2" not in ill.stdout + ill.stderr


def test_doctor_takes_an_engine_that_answers_slowly_for_no_fault(tmp_path):
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(tmp_path / "engine.sock"))
        engine.listen()
        Thread(target=_hang_up_slowly, args=(engine,), daemon=True).start()
        settings = {"DOCKER_HOST": f"unix://{tmp_path / 'engine.sock'}"}
        found = run_quaymaster("doctor", home=tmp_path, settings=settings)
    assert found.returncode == 0, found.stdout
    assert "docker off" in found.stdout


def _hang_up_slowly(engine: socket.socket) -> None:
    """Longer than a health report waits for a part, until the socket is closed."""
    with suppress(OSError):
        while True:
            caller, _ = engine.accept()
            with caller:
                select.select([], [], [], 1.5)


# The hook


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository named `shop`, with two staged files, in a home where `shop` is a project."""
    root = tmp_path / "shop"
    root.mkdir()
    git(root, "init", "-q")
    for name in ("src/a.py", "src/ü b.py"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("x")
    git(root, "add", ".")
    return root


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=root, check=True, timeout=30)


def check(root: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """As a hook runs it: in the repository, with the home beside it."""
    environment = quaymaster_environment(root.parent / "home", settings) | {"PYTHONPATH": str(CHECKOUT)}
    return subprocess.run(
        quaymaster_command("locks", "check", *arguments),
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def lock(home: Path, paths: list[str], agent: str) -> None:
    """Through a server over stdio."""
    from tests.acceptance.wire import call, receive, send

    home.mkdir(exist_ok=True)
    with ServerProcess.stdio(home=home) as server:
        send(server, call(1, "create_project", name="shop"))
        receive(server)
        send(server, call(2, "lock_files", project="shop", paths=paths, agent=agent))
        assert not receive(server)["result"].get("isError")


def test_the_hook_passes_free_files_and_the_committers_own(repository):
    lock(repository.parent / "home", ["src/"], "ann")
    assert check(repository, "--staged", "--agent", "ann").returncode == 0
    own = check(repository, "--staged", QUAYMASTER_AGENT="ann", QUAYMASTER_TASK="")
    assert (own.returncode, own.stderr) == (0, "")
    assert check(repository, "README.md").returncode == 0


def test_the_hook_stops_a_commit_of_what_another_has_locked_and_says_who(repository):
    lock(repository.parent / "home", ["src/ü*"], "ann")
    stopped = check(repository, "--staged")
    assert stopped.returncode == 4
    assert "src/ü b.py is locked by" in stopped.stderr
    assert "agent:ann" in stopped.stderr
    as_json = check(repository, "--staged", "--json")
    assert (as_json.returncode, json.loads(as_json.stdout)["free"]) == (4, False)


def test_a_check_that_cannot_be_made_is_an_error_and_never_free(repository, tmp_path):
    (repository.parent / "home").mkdir()
    unknown = check(repository, "--staged")
    assert unknown.returncode == 1
    assert "no project 'shop' in this team. Name the project: --project NAME." in unknown.stderr
    signed_off = check(repository, "--staged", QUAYMASTER_API_KEY="qm_local_member_none")
    assert signed_off.returncode == 1
    assert "key" in signed_off.stderr
    outside = check(tmp_path, "--staged")
    assert outside.returncode == 1
    assert "git" in outside.stderr


# Clients


@pytest.mark.parametrize(
    ("client", "file", "section"),
    [
        ("claude-desktop", ".config/Claude/claude_desktop_config.json", "mcpServers"),
        ("claude-code", ".mcp.json", "mcpServers"),
        ("cursor", ".cursor/mcp.json", "mcpServers"),
        ("vscode", ".vscode/mcp.json", "servers"),
    ],
)
def test_install_adds_the_server_beside_others_and_keeps_a_copy(tmp_path, client, file, section):
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    before = json.dumps({section: {"other": {"command": "x"}}, "more": 1})
    path.write_text(before)
    shown = run_quaymaster("install", client, "--print", home=tmp_path)
    assert path.read_text() == before
    assert run_quaymaster("install", client, home=tmp_path).returncode == 0
    after = json.loads(path.read_text())
    assert after["more"] == 1
    assert set(after[section]) == {"other", "quaymaster"}
    assert after[section]["quaymaster"] == json.loads(shown.stdout)[section]["quaymaster"]
    assert [copy.read_text() for copy in path.parent.glob("*.bak")] == [before]


def test_what_install_writes_starts_the_server(tmp_path):
    shown = run_quaymaster("install", "cursor", "--print", home=tmp_path)
    entry = json.loads(shown.stdout)["mcpServers"]["quaymaster"]
    done = subprocess.run(
        [entry["command"], *entry["args"]],
        env=quaymaster_environment(tmp_path) | entry["env"],
        cwd=tmp_path,
        input='{"jsonrpc":"2.0","id":1,"method":"ping"}\n',
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0
    assert json.loads(done.stdout)["id"] == 1


def test_what_install_writes_runs_nothing_of_the_folder_that_a_client_works_in(tmp_path):
    shown = run_quaymaster("install", "cursor", "--print", home=tmp_path)
    entry = json.loads(shown.stdout)["mcpServers"]["quaymaster"]
    for module in ("mcp_server/__init__.py", "mcp_server/__main__.py", "json.py"):
        strange = tmp_path / "work" / module
        strange.parent.mkdir(parents=True, exist_ok=True)
        strange.write_text("raise SystemExit('the folder was run')")
    started = subprocess.run(
        [entry["command"], *entry["args"]],
        env=quaymaster_environment(tmp_path, entry["env"]),
        cwd=tmp_path / "work",
        input="",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (started.returncode, started.stderr) == (0, "")


def test_install_leaves_a_file_with_comments_alone(tmp_path):
    path = tmp_path / ".mcp.json"
    path.write_text("{ // mine\n}")
    refused = run_quaymaster("install", "claude-code", home=tmp_path)
    assert refused.returncode == 4
    assert path.read_text() == "{ // mine\n}"
    assert "--print" in refused.stderr


def test_a_server_without_a_key_prints_a_command_that_makes_one(tmp_path):
    with ServerProcess.serve(home=tmp_path) as server:
        said = server.wait_for_stderr("make one: ")
    command = said.split("make one: ")[1].splitlines()[0]
    made = subprocess.run(
        shlex.split(command),
        env=quaymaster_environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (made.returncode, made.stdout[:15]) == (0, "qm_local_owner_"), made.stderr
