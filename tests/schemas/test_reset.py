"""`migrate -t reset` from the prompt to the last migration, and seed.py, as a person and as a script meet them."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.schemas.conftest import Bench
from tests.schemas.test_terminal import CODE, Person, db

ONE = "CREATE TABLE one (id integer PRIMARY KEY, name text);"
TWO = "INSERT INTO one VALUES (1, 'from a migration');"
RESET = ("migrate", "-t", "reset", "-d", "app")


def filled_with(bench: Bench) -> Bench:
    """Two migrations applied, a row and a table that no migration knows."""
    bench.migration("001_one", ONE, "DROP TABLE one;")
    bench.migration("002_two", TWO, "DELETE FROM one;")
    assert db(bench, "migrate", "-t", "deploy", "-a", "--no-countdown").returncode == 0
    for sql in ("INSERT INTO one VALUES (2, 'by hand')", "CREATE TABLE stray (id integer)"):
        assert db(bench, "execute", "-d", "app", "-q", sql, "--write").returncode == 0
    return bench


@pytest.fixture
def filled(sqlite_bench: Bench) -> Bench:
    return filled_with(sqlite_bench)


def names(bench: Bench) -> list[str]:
    found = db(bench, "execute", "-d", "app", "-q", "SELECT name FROM one ORDER BY id", "--json")
    return [row[0] for row in json.loads(found.stdout)["databases"][0]["result"]["rows"]]


def has_stray(bench: Bench) -> bool:
    return db(bench, "execute", "-d", "app", "-q", "SELECT * FROM stray").returncode == 0


def test_a_person_types_two_codes_and_everything_begins_anew(bench: Bench) -> None:
    filled = filled_with(bench)
    person = Person(filled, *RESET)
    [first] = person.waits_for(CODE)
    for said in (
        "reset of 'app' in development",
        "drop everything in the database (2 tables)",
        "lost: table",
    ):
        assert said in person.seen
    person.types(f"{first}\n")
    second = person.waits_for(CODE, 2)[1]
    assert second != first
    person.types(f"{second}\n")
    assert person.ends() == 0, person.seen
    assert "restored and compared" in person.seen
    assert "erased and migrated from the start" in person.seen
    assert names(filled) == ["from a migration"]
    assert not has_stray(filled)
    assert db(filled, "migrate", "-t", "status", "-a").returncode == 0


@pytest.mark.parametrize("second", ["the first again", "AAAA"])
def test_a_wrong_second_code_changes_nothing(filled: Bench, second: str) -> None:
    person = Person(filled, *RESET)
    [first] = person.waits_for(CODE)
    person.types(f"{first}\n")
    person.waits_for(CODE, 2)
    person.types(f"{first if second == 'the first again' else second}\n")
    assert person.ends() == 4, person.seen
    assert names(filled) == ["from a migration", "by hand"]


def test_without_a_terminal_the_token_of_the_plan_resets_once_and_only_what_was_planned(
    filled: Bench,
) -> None:
    refused = db(filled, *RESET)
    assert (refused.returncode, refused.stdout) == (4, "")
    token = db(filled, *RESET, "--plan").stdout.strip()
    assert names(filled) == ["from a migration", "by hand"]
    assert db(filled, "push", "-d", "app", "--token", token).returncode != 0
    token = db(filled, *RESET, "--plan").stdout.strip()
    filled.migration("003_three", "CREATE TABLE three (id integer);", "DROP TABLE three;")
    moved = db(filled, *RESET, "--token", token)
    assert moved.returncode == 4
    assert names(filled) == ["from a migration", "by hand"]
    token = db(filled, *RESET, "--plan").stdout.strip()
    done = db(filled, *RESET, "--token", token, "--json")
    assert done.returncode == 0, done.stderr
    backup = json.loads(done.stdout)["databases"][0]["result"]["backup"]
    assert (filled.home / "backups" / f"{backup}.qmbackup").exists()
    assert names(filled) == ["from a migration"]
    assert db(filled, *RESET, "--token", token).returncode == 4


def test_a_plan_is_for_its_database_and_its_environment(sqlite_bench: Bench) -> None:
    sqlite_bench.migration("001_one", ONE, "DROP TABLE one;")
    other = sqlite_bench.root / "db" / "other" / "migrations"
    other.mkdir(parents=True)
    (other.parent / "database.toml").write_text('[production]\nallow = ["reset"]\n')
    sqlite_bench.environ["RDS_OTHER_URL"] = f"sqlite:///{sqlite_bench.root}/other.db"
    token = db(sqlite_bench, *RESET, "--plan").stdout.strip()
    assert db(sqlite_bench, "migrate", "-t", "reset", "-d", "other", "--token", token).returncode == 4
    token = db(sqlite_bench, "migrate", "-t", "reset", "-d", "other", "--plan").stdout.strip()
    refused = db(
        sqlite_bench, "migrate", "-t", "reset", "-d", "other", "--token", token, "--env", "production"
    )
    assert refused.returncode == 4
    assert "another plan" in refused.stderr


def test_production_refuses_before_it_asks(filled: Bench) -> None:
    refused = db(filled, *RESET, "--env", "production")
    assert refused.returncode == 4
    assert "refused in production" in refused.stderr
    assert names(filled) == ["from a migration", "by hand"]


def test_a_migration_that_cannot_run_stops_a_reset_before_anything_is_erased(filled: Bench) -> None:
    filled.migration("003_empty", "-- nothing\n")
    token = db(filled, *RESET, "--plan").stdout.strip()
    assert db(filled, *RESET, "--token", token).returncode == 2
    assert has_stray(filled)


# -- seed.py -----------------------------------------------------------------------------------------

SEED = """
import os, sqlite3, sys
assert os.environ["RDS_APP_URL"] == os.environ["DATABASE_URL"]
with sqlite3.connect(os.environ["DATABASE_URL"].removeprefix("sqlite:///")) as connection:
    connection.execute("INSERT INTO one (name) VALUES (?)", (os.getcwd(),))
print("one row of", sys.executable.rpartition("/")[2])
"""


@pytest.fixture
def seeded(sqlite_bench: Bench) -> Bench:
    sqlite_bench.migration("001_one", ONE, "DROP TABLE one;")
    assert db(sqlite_bench, "migrate", "-t", "deploy", "-a", "--no-countdown").returncode == 0
    return sqlite_bench


def test_a_program_seeds_with_the_address_in_its_environment(seeded: Bench, tmp_path: Path) -> None:
    (seeded.folder / "seed.py").write_text(SEED)
    done = db(seeded, "seed", "-d", "app")
    assert done.returncode == 0, done.stderr
    assert "one row of python" in done.stdout
    with closing(sqlite3.connect(tmp_path / "app.db")) as connection:
        assert connection.execute("SELECT name FROM one").fetchall() == [(str(seeded.root),)]


def test_a_program_that_fails_fails_the_command_with_its_last_words(seeded: Bench) -> None:
    (seeded.folder / "seed.py").write_text("raise SystemExit('no rows for you')")
    failed = db(seeded, "seed", "-d", "app", "--json")
    assert failed.returncode == 1
    assert "no rows for you" in failed.stderr
    assert json.loads(failed.stdout)["databases"][0]["code"] == 1


def test_both_kinds_of_seed_are_too_many_and_neither_is_too_few(seeded: Bench) -> None:
    assert db(seeded, "seed", "-d", "app").returncode == 4
    (seeded.folder / "seed.py").write_text("")
    (seeded.folder / "seed.sql").write_text("SELECT 1;")
    both = db(seeded, "seed", "-d", "app")
    assert both.returncode == 2
    assert "both seed.sql and seed.py" in both.stderr


def test_a_seed_of_sql_is_all_or_nothing(seeded: Bench) -> None:
    (seeded.folder / "seed.sql").write_text(
        "INSERT INTO one VALUES (1, 'a');\nINSERT INTO nowhere VALUES (1);"
    )
    failed = db(seeded, "seed", "-d", "app")
    assert failed.returncode == 1
    assert "seed.sql, line 2" in failed.stderr
    assert names(seeded) == []
