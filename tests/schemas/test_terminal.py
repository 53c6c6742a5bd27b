"""The command as a person and as a script meet it: codes typed at a real terminal, Ctrl-C, a pipe, exit codes."""

import asyncio
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

import pytest

from tests.schemas.conftest import Bench
from tests.services.processes import CHECKOUT

CODE = re.compile(r"Type (?:\x1b\[[\d;]*m)?([A-Z2-9]{4})")


@pytest.fixture
def applied(sqlite_bench: Bench) -> Bench:
    sqlite_bench.migration("001_one", "CREATE TABLE one (id integer);", "DROP TABLE one;")
    asyncio.run(sqlite_bench.deploy())
    return sqlite_bench


def environment(bench: Bench, **more: str) -> dict[str, str]:
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("LC_", "LANG"))}
    home = {"QUAYMASTER_HOME": str(bench.home), "DOCKER_HOST": f"unix://{bench.home}.sock"}
    return {**kept, **home, **bench.environ, "PYTHONPATH": str(CHECKOUT), **more}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "mcp_server", "db", *arguments]


def db(bench: Bench, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        cwd=bench.root,
        env=environment(bench, **more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class Person:
    """Someone at a terminal, who reads until what they wait for is there."""

    def __init__(self, bench: Bench, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            command(*arguments),
            cwd=bench.root,
            env=environment(bench),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            # Whoever is started in the background by a shell is deaf to Ctrl-C, and so would be its children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        os.close(slave)
        self.seen = ""

    def waits_for(self, pattern: re.Pattern[str], times: int = 1) -> list[str]:
        deadline = time.monotonic() + 40
        while len(found := pattern.findall(self.seen)) < times:
            assert time.monotonic() < deadline, self.seen
            if select.select([self._master], [], [], 0.2)[0]:
                self.seen += self._read()
        return found

    def types(self, text: str) -> None:
        os.write(self._master, text.encode())

    def ends(self) -> int:
        code = self.process.wait(timeout=40)
        while select.select([self._master], [], [], 0.2)[0] and (more := self._read()):
            self.seen += more
        os.close(self._master)
        return code

    def _read(self) -> str:
        try:
            return os.read(self._master, 65536).decode("utf-8", "replace")
        except OSError:
            return ""


def test_both_codes_typed_right_take_the_migration_back(applied):
    person = Person(applied, "rollback", "-d", "app", "-t", "base")
    [first] = person.waits_for(CODE)
    person.types(f"{first.lower()}\n")
    second = person.waits_for(CODE, 2)[1]
    assert second != first
    person.types(f"{second}\n")
    assert person.ends() == 0, person.seen
    assert "in development" in person.seen
    assert "restored and compared" in person.seen
    assert "\x1b[32m" in person.seen
    assert db(applied, "migrate", "-t", "status", "-a").returncode == 3


@pytest.mark.parametrize("typed", ["AAAA\n", "\x04"])
def test_a_wrong_code_or_the_end_of_input_changes_nothing(applied, typed):
    person = Person(applied, "rollback", "-d", "app", "-t", "base")
    person.waits_for(CODE)
    person.types(typed)
    assert person.ends() == 4, person.seen
    assert person.seen.lower().count("nothing has been changed") == 1
    assert db(applied, "migrate", "-a").returncode == 0


def test_codes_are_different_each_time(applied):
    seen = set()
    for _ in range(2):
        person = Person(applied, "rollback", "-d", "app", "-t", "base")
        seen |= set(person.waits_for(CODE))
        person.types("\x04")
        person.ends()
    assert len(seen) == 2


def test_ctrl_c_at_a_prompt_and_in_the_countdown_ends_at_once_and_changes_nothing(applied):
    person = Person(applied, "rollback", "-d", "app", "-t", "base")
    person.waits_for(CODE)
    os.killpg(person.process.pid, signal.SIGINT)
    assert person.ends() == 130, person.seen
    assert person.seen.endswith("\n")
    applied.migration("002_two", "CREATE TABLE two (id integer);")
    person = Person(applied, "migrate", "-t", "deploy", "-d", "app", "--env", "production")
    person.waits_for(re.compile(r"\[#+\.+\]"))
    os.killpg(person.process.pid, signal.SIGINT)
    assert person.ends() == 130, person.seen
    assert person.seen.endswith("\r\x1b[K")
    assert "001_one" in db(applied, "rollback", "--list", "-d", "app").stdout
    assert "002_two" not in db(applied, "rollback", "--list", "-d", "app").stdout


def test_without_a_terminal_a_token_from_plan_is_needed_and_is_good_once(applied):
    refused = db(applied, "rollback", "-d", "app", "-t", "base")
    assert (refused.returncode, refused.stdout) == (4, "")
    assert "--plan" in refused.stderr
    planned = db(applied, "rollback", "-d", "app", "-t", "base", "--plan")
    token = planned.stdout.strip()
    assert planned.returncode == 0
    assert "down.sql" in planned.stderr
    assert "\x1b" not in planned.stderr
    again = ("rollback", "-d", "app", "-t", "base", "--token", token)
    assert db(applied, *again).returncode == 0
    assert db(applied, "migrate", "-t", "deploy", "-a", "--no-countdown").returncode == 0
    used = db(applied, *again)
    assert used.returncode == 4
    assert "not known, or was used" in used.stderr


def test_a_token_is_bound_to_its_environment(applied):
    token = db(applied, "rollback", "-d", "app", "-t", "base", "--plan").stdout.strip()
    arguments = ("rollback", "-d", "app", "-t", "base", "--token", token)
    assert db(applied, *arguments, QUAYMASTER_ENV="production").returncode == 4


@pytest.mark.parametrize("arguments", [("migrate", "-t", "reset"), ("push",)])
def test_production_refuses_reset_and_push_until_the_settings_say_otherwise(applied, arguments):
    applied.schema("CREATE TABLE one (id integer);")
    refused = db(applied, *arguments, "-d", "app", "--plan", "--env", "production")
    assert refused.returncode == 4
    assert "refused in production" in refused.stderr
    with (applied.folder / "database.toml").open("a") as settings:
        settings.write(f'[production]\nallow = ["{arguments[-1]}"]\n')
    assert db(applied, *arguments, "-d", "app", "--plan", "--env", "production").returncode == 0


def test_a_push_that_can_express_nothing_more_does_not_say_that_all_is_as_it_should_be(postgres_bench):
    asyncio.run(postgres_bench.write("CREATE TYPE addr AS (street text)"))
    postgres_bench.schema("CREATE TYPE addr AS (street text, zip text);")
    done = db(postgres_bench, "push", "-d", "app")
    assert done.returncode == 3
    assert "not expressed, do it by hand: type public.addr: differs" in done.stdout + done.stderr
    assert "as schema.sql says" not in done.stdout + done.stderr
    postgres_bench.schema("CREATE TYPE addr AS (street text, zip text); CREATE TABLE t (id int);")
    planned = db(postgres_bench, "push", "-d", "app", "--plan", "--json")
    [answer] = json.loads(planned.stdout)["databases"]
    assert answer["result"]["left"] == ["type public.addr: differs"]
    assert "left as it is, do it by hand: type public.addr: differs" in planned.stderr


def test_a_server_that_is_away_is_said_to_a_person_without_the_name_of_a_tool(postgres_bench):
    postgres_bench.schema("CREATE TABLE t (id int);")
    postgres_bench.environ["RDS_APP_URL"] = "postgresql://nobody@127.0.0.1:1/nothing"
    done = db(postgres_bench, "validate", "-d", "app")
    assert done.returncode == 1
    assert done.stderr.startswith("app: no shadow database: PostgreSQL cannot be reached")
    assert "infrastructure_status" not in done.stderr


def test_all_databases_are_tried_and_the_worst_code_is_returned(applied):
    (applied.root / "db" / "other" / "migrations").mkdir(parents=True)
    found = db(applied, "migrate", "-t", "status", "-a", "--json")
    answers = {each["database"]: each["code"] for each in json.loads(found.stdout)["databases"]}
    assert answers == {"app": 0, "other": 2}
    assert found.returncode == 2
    assert "RDS_OTHER_URL" in found.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("migrate", "-t", "nonsense"), 2),
        (("migrate", "-d", "nowhere"), 4),
        (("execute", "-d", "app", "-q", "SELECT * FROM nowhere"), 1),
        (("execute", "-d", "app", "-q", "SELECT 1; SELECT 2"), 2),
        (("execute", "-d", "app", "-q", "DELETE FROM one"), 1),
        (("execute", "-d", "app", "-q", "DELETE FROM one", "--write"), 0),
        (("debug", "--json"), 0),
    ],
)
def test_exit_codes_can_be_trusted(applied, arguments, code):
    assert db(applied, *arguments).returncode == code


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (("migrate", "-d", "nowhere"), 4, "NOT_FOUND"),
        (("migrate",), 2, "INVALID"),
        (("migrate", "-a", "--env", "nonsense"), 2, "INVALID"),
        (("new", "app"), 4, "CONFLICT"),
    ],
)
def test_what_is_refused_before_any_database_is_one_document_too(applied, arguments, code, error):
    done = db(applied, *arguments, "--json")
    assert done.returncode == code
    assert json.loads(done.stdout)["error"]["code"] == error
    assert done.stderr.startswith("db: ")


def test_a_command_whose_output_is_closed_does_its_work(applied):
    applied.migration("002_two", "CREATE TABLE two (id integer);")
    arguments = (*command("migrate", "-t", "deploy", "-d", "app", "--no-countdown"),)
    closed = subprocess.run(
        ["/bin/sh", "-c", '"$@" <&- >&- 2>&-', "sh", *arguments],
        cwd=applied.root,
        env=environment(applied),
        check=False,
    )
    assert closed.returncode == 0
    assert "002_two" in db(applied, "rollback", "--list", "-d", "app").stdout


def test_a_reader_who_has_gone_does_not_stop_the_work_on_other_databases(applied):
    other = applied.root / "db" / "other" / "migrations" / "001_one"
    other.mkdir(parents=True)
    (other / "up.sql").write_text("CREATE TABLE one (id integer);")
    applied.environ["RDS_OTHER_URL"] = f"sqlite:///{applied.root}/other.db"
    for number in range(2, 6):
        applied.migration(f"00{number}_more", f"CREATE TABLE t{number} (id integer);")
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        command("migrate", "-t", "deploy", "-a", "--no-countdown"),
        cwd=applied.root,
        env=environment(applied),
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(write)
    assert "Traceback" not in done.stderr
    for name in ("app", "other"):
        assert json.loads(db(applied, "migrate", "-d", name, "--json").stdout)["databases"][0]["code"] == 0


def test_two_folders_that_give_one_variable_are_an_error(sqlite_bench):
    for name in ("myDb", "my-db"):
        (sqlite_bench.root / "db" / name / "migrations").mkdir(parents=True)
    refused = db(sqlite_bench, "list")
    assert refused.returncode == 2
    assert "RDS_MY_DB_URL" in refused.stderr


def test_help_speaks_korean_and_completion_knows_the_commands(sqlite_bench):
    assert "데이터베이스" in db(sqlite_bench, "help", "-l", "ko").stdout
    assert "데이터베이스" in db(sqlite_bench, "--help", LANG="ko_KR.UTF-8", PYTHONUTF8="1").stdout
    script = db(sqlite_bench, "completion", "bash").stdout
    for typed, completed in (
        ("mig", "migrate"),
        ("migrate -t re", "reset resolve"),
        ("push -d a", "app"),
        ("push --env t", "test"),
        ("push --acc", "--accept-data-loss"),
        ("completion f", "fish"),
    ):
        ask = f"COMP_WORDS=(quaymaster db {typed}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _quaymaster_db"
        words = subprocess.run(
            ["bash", "-c", f'{script}\n{ask}; echo "${{COMPREPLY[*]}}"'],
            cwd=sqlite_bench.root,
            capture_output=True,
            text=True,
            check=True,
        )
        assert words.stdout.strip() == completed


@pytest.mark.parametrize("arguments", [("migrate", "-t", "reset"), ("push",)])
def test_production_by_its_short_name_is_production_and_an_unknown_environment_is_none(applied, arguments):
    applied.schema("CREATE TABLE one (id integer);")
    refused = db(applied, *arguments, "-d", "app", "--plan", QUAYMASTER_ENV="PROD")
    assert refused.returncode == 4
    assert "refused in production" in refused.stderr
    unknown = db(applied, *arguments, "-d", "app", "--plan", "--env", "produktion")
    assert unknown.returncode == 2
    assert "development, test, production" in unknown.stderr


def test_a_push_that_loses_data_is_refused_before_codes_are_asked_for_or_a_token_is_used_up(applied):
    applied.schema("CREATE TABLE two (id integer);")
    person = Person(applied, "push", "-d", "app")
    assert person.ends() == 4
    assert "--accept-data-loss" in person.seen
    assert "Type" not in person.seen
    token = db(applied, "push", "-d", "app", "--plan").stdout.strip()
    assert db(applied, "push", "-d", "app", "--token", token).returncode == 4
    assert db(applied, "push", "-d", "app", "--token", token, "--accept-data-loss").returncode == 0


def test_a_person_is_told_what_comes_next_where_there_is_nothing(sqlite_bench):
    empty = sqlite_bench.root / "elsewhere"
    empty.mkdir()
    assert "db new NAME" in db(sqlite_bench, "list", "--root", str(empty)).stderr
    assert "nothing is applied" in db(sqlite_bench, "rollback", "--list", "-d", "app").stderr
    sqlite_bench.schema("CREATE TABLE one (id integer);")
    said = db(sqlite_bench, "migrate", "-t", "dev", "-d", "app")
    assert said.returncode == 0
    assert "-n NAME" in said.stderr
    assert "list tools" not in db(sqlite_bench, "seed", "-d", "app").stderr


def test_a_bar_fits_the_terminal_and_a_pipe_sees_none(applied):
    applied.migration(f"002_{'long' * 24}", "CREATE TABLE two (id integer);", "DROP TABLE two;")
    person = Person(applied, "migrate", "-t", "deploy", "-d", "app", "--no-countdown")
    assert person.ends() == 0
    bars = re.findall(r"\r\x1b\[K(\[[#.]+\] [^\r\x1b]*)", person.seen)
    assert bars
    assert all(len(each) < 80 for each in bars)
    piped = db(applied, "migrate", "-t", "deploy", "-d", "app")
    assert "[#" not in piped.stdout + piped.stderr
    assert "\x1b" not in piped.stdout + piped.stderr
