"""Run the named benchmarks, or all: print a table, write `benchmarks/results.json`."""

from __future__ import annotations

import importlib
import json
import platform
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import anyio

from benchmarks.measure import Row, table

NAMES = ("startup", "calls", "locks", "failover", "growth", "deployments", "edge", "migrations", "databases")
RESULTS = Path(__file__).with_name("results.json")


def main() -> None:
    names = sys.argv[1:] or list(NAMES)
    rows: list[Row] = []
    for name in names:
        print(f"measuring {name} ...", file=sys.stderr)
        rows += anyio.run(importlib.import_module(f"benchmarks.{name}").measure)
    machine = f"{platform.machine()}, Python {platform.python_version()}, {datetime.now(UTC):%Y-%m-%d}"
    RESULTS.write_text(
        json.dumps({"machine": machine, "rows": [asdict(row) for row in rows]}, indent=1) + "\n"
    )
    print(table(rows))


if __name__ == "__main__":
    main()
