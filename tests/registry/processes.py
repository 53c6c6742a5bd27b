"""Workers as processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def start(
    home: Path, what: str, name: str = "w", count: int = 1, fault: str | None = None
) -> subprocess.Popen[str]:
    environment = {"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(CHECKOUT)}
    if fault is not None:
        environment["QUAYMASTER_FAULT"] = fault
    return subprocess.Popen(
        [sys.executable, "-m", "tests.registry.worker", str(home), what, name, str(count)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], seconds: float = 60) -> tuple[int, list[str], str]:
    """Exit code, words on stdout, stderr."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return process.returncode, out.split(), err


def first_word(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()
