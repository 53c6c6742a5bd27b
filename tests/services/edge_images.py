"""An image with the newer Caddy: the older one's, with another program in its place."""

import hashlib
import io
import json
import tarfile

from .edge import find_proxy
from .engine import DockerEngine
from .images import PREFIX, ensure


def newer_caddy(engine: DockerEngine) -> str:
    """Its name on the engine, made when it is missing. Raises ProxyMissing and ImageMissing."""
    program = find_proxy("caddy-2.11").read_bytes()
    base = ensure(engine, "caddy")
    tag = f"{PREFIX}/caddy:newer-{hashlib.sha256(base.encode() + program).hexdigest()[:12]}"
    if engine.find(f"/images/{tag}/json") is None:
        said = engine.ask("POST", f"/build?t={tag}&q=1", _context(base, program), seconds=300)
        if engine.find(f"/images/{tag}/json") is None:
            raise RuntimeError(json.dumps(said)[-500:])
    return tag


def _context(base: str, program: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        recipe = f"FROM {base}\nCOPY caddy /usr/bin/caddy\n".encode()
        for name, content, mode in (("Dockerfile", recipe, 0o644), ("caddy", program, 0o755)):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
