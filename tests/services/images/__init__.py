"""Small stand-ins for public images, put together from Debian's packages and a wheel: no registry is asked.

`ensure(engine, "postgres")` gives the name of the image on that engine, making it when it is missing or
when what it is made from has changed. QUAYMASTER_TEST_IMAGE_POSTGRES (and so on) names a public image.
"""

import fcntl
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any, Protocol

from .recipes import RECIPES, Recipe
from .sources import CACHE, ImageMissing

__all__ = ["NAMES", "ImageMissing", "ensure"]

PREFIX = "quaymaster-test"
CONTENT = "quaymaster-test.content"
MADE = "2024-01-01T00:00:00Z"
NAMES = tuple(RECIPES)


class Docker(Protocol):
    def find(self, path: str) -> Any: ...

    def load_image(self, archive: bytes) -> None: ...


def ensure(engine: Docker, name: str) -> str:
    """The full name of the image `name` on the engine. ImageMissing when it cannot be made here."""
    if named := os.environ.get(f"QUAYMASTER_TEST_IMAGE_{name.replace('-', '_').upper()}"):
        return named
    recipe = RECIPES[name]
    tag, wanted = f"{PREFIX}/{recipe.tag}", _fingerprint(recipe)
    if _content(engine, tag) == wanted:
        return tag
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _content(engine, tag) != wanted:
            engine.load_image(_archive(tag, recipe, wanted))
    return tag


def _content(engine: Docker, tag: str) -> str | None:
    found = engine.find(f"/images/{tag}/json")
    labels = found and found["Config"].get("Labels")
    return labels.get(CONTENT) if labels else None


def _fingerprint(recipe: Recipe) -> str:
    """Of everything in the checkout that decides what is in the image."""
    here = Path(__file__).parent
    digest = hashlib.sha256(json.dumps([recipe.tag, recipe.config], sort_keys=True).encode())
    for file in sorted(path for path in here.rglob("*") if path.suffix in (".py", ".sh")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _archive(tag: str, recipe: Recipe, content: str) -> bytes:
    """What `docker save` would write: one layer, fixed dates, so that the same content has the same id."""
    root = recipe.root().tar()
    meta = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": MADE,
            "config": {**recipe.config, "Labels": {CONTENT: content}},
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(root).hexdigest()]},
            "history": [{"created": MADE, "created_by": "tests/services/images"}],
        },
        sort_keys=True,
    ).encode()
    name = hashlib.sha256(meta).hexdigest() + ".json"
    manifest = [{"Config": name, "RepoTags": [tag], "Layers": ["layer.tar"]}]
    return _tar({name: meta, "layer.tar": root, "manifest.json": json.dumps(manifest).encode()})


def _tar(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
