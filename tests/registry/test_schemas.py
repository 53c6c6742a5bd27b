"""The published schemas and the example say what the code does."""

import json
import shutil
from pathlib import Path

import jsonschema
import pytest

from mcp_server.adapters.registry import schemas
from mcp_server.adapters.registry.maintenance import verify
from mcp_server.adapters.registry.mirror import RegistryMirror
from mcp_server.domain.nouns import BY_NOUN
from tests.registry.make_example import EXAMPLE, make
from tests.registry.samples import add, found, rename, task

FOLDER = Path(__file__).resolve().parents[2] / "registry" / "schemas"


def check(name: str, document: object) -> None:
    schema = json.loads((FOLDER / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(document)


def test_the_published_schemas_are_those_of_the_records():
    assert schemas.differences(FOLDER) == []


def test_every_record_and_every_document_has_a_schema():
    names = {path.name.removesuffix(".schema.json") for path in FOLDER.iterdir()}
    assert names == {f"record-{noun}" for noun in BY_NOUN} | set(schemas.DOCUMENTS)


@pytest.mark.parametrize("change", ["stale", "missing", "too many"])
def test_a_schema_that_differs_is_named(tmp_path, change):
    schemas.write(tmp_path)
    path = tmp_path / "record-tasks.schema.json"
    if change == "stale":
        path.write_text("{}")
    elif change == "missing":
        path.unlink()
    else:
        path = tmp_path / "record-ships.schema.json"
        path.write_text("{}")
    assert schemas.differences(tmp_path) == [path.name]


async def test_the_example_is_what_its_script_makes(tmp_path):
    await make(tmp_path / "home")
    made = {path.name: path.read_bytes() for path in (tmp_path / "home").iterdir()}
    assert made == {path.name: path.read_bytes() for path in EXAMPLE.iterdir()}


async def test_the_example_is_a_sound_home_that_can_be_opened(tmp_path):
    root = tmp_path / "home"
    shutil.copytree(EXAMPLE, root)
    assert verify(root).sound
    mirror = await RegistryMirror.open(root)
    assert (await found(mirror, "tasks", "task-1")).title == "Sell tea"
    mirror.close()


async def test_every_document_of_a_home_fits_its_schema(with_task, root):
    await rename(with_task, "x", pending=True)
    await with_task.set_mode("degraded", epoch=2, reason="r")
    await with_task.compact()
    await add(with_task, task("k2"), pending=True)
    for folder in (root, EXAMPLE):
        for pattern, name in {
            "home.json": "home",
            "HEAD": "HEAD",
            "snapshot-*.json": "snapshot",
            "api-keys.json": "api-keys",
            "journal-*.ndjson": "journal-line",
            "audit-*.ndjson": "audit-line",
        }.items():
            for path in folder.glob(pattern):
                for raw in path.read_text().splitlines():
                    check(name, json.loads(raw))
        (snapshot,) = folder.glob("snapshot-*.json")
        for noun, records in json.loads(snapshot.read_text())["records"].items():
            for record in records:
                check(f"record-{noun}", record)
