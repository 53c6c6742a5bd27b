"""The JSON Schemas in `registry/schemas`, made from the records and documents by `make generate`."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel

from mcp_server.adapters.registry.documents import (
    AuditLineDocument,
    HeadDocument,
    HomeDocument,
    KeysDocument,
    LineDocument,
    SnapshotDocument,
)
from mcp_server.domain.nouns import RECORDS

DOCUMENTS: dict[str, type[BaseModel]] = {
    "home": HomeDocument,
    "HEAD": HeadDocument,
    "journal-line": LineDocument,
    "snapshot": SnapshotDocument,
    "api-keys": KeysDocument,
    "audit-line": AuditLineDocument,
}


def schemas() -> dict[str, str]:
    """File name to text, of every document and every record."""
    records = {f"record-{record.noun}": record for record in RECORDS}
    return {
        f"{name}.schema.json": _text(name, kind) for name, kind in sorted({**DOCUMENTS, **records}.items())
    }


def write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.schema.json"):
        path.unlink()
    for name, text in schemas().items():
        (folder / name).write_text(text)


def differences(folder: Path) -> list[str]:
    """Names of files that are missing, stale, or too many."""
    found = {path.name: path.read_text() for path in folder.glob("*.schema.json")}
    wanted = schemas()
    return sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))


def _text(name: str, kind: type[BaseModel]) -> str:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **kind.model_json_schema(),
        "title": name,
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
